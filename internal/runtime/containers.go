package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/keeper/wire"
	"clipper.dev/clipper/internal/runtime/container"
	"clipper.dev/clipper/internal/runtime/image"
	"clipper.dev/clipper/internal/runtime/sandbox"
)

// startErrorCode is the exit code of a container that could not be started.
const startErrorCode = 128

// CreateContainer plans a container and makes its folders.
func (rt *Runtime) CreateContainer(ctx context.Context, request *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	config := request.GetConfig()
	if config.GetMetadata() == nil || config.GetMetadata().GetName() == "" {
		return nil, invalid("container configuration lacks a name")
	}
	sb, err := rt.sandbox(request.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	pod := sb.record.Load()
	if !pod.Ready || sb.stopping.Load() {
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox container %q is not running", pod.ID)
	}
	img, err := rt.images.Get(config.GetImage().GetImage())
	if err != nil {
		return nil, fmt.Errorf("failed to resolve image %q: %w", config.GetImage().GetImage(), err)
	}
	id := newID()
	name := containerName(pod.ID, config.GetMetadata())
	if err := rt.reserve(name, id); err != nil {
		return nil, err
	}
	if err := rt.keeper.Prepare(ctx); err != nil {
		rt.log.Debug("the keeper was not told of a container to come", "error", err)
	}
	record, err := rt.makeContainer(ctx, id, pod, config, img)
	if err != nil {
		rt.unreserve(name)
		return nil, errors.Join(fmt.Errorf("create container %s: %w", config.GetMetadata().GetName(), err), rt.containerDir.Remove(id))
	}
	rt.mu.Lock()
	rt.containers[id] = newContainerState(record)
	rt.mu.Unlock()
	rt.emit(id, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT, pod)
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

func containerName(sandboxID string, m *runtimeapi.ContainerMetadata) string {
	return fmt.Sprintf("%s_%s_%d", m.GetName(), sandboxID, m.GetAttempt())
}

// makeContainer plans a container and writes what start needs.
func (rt *Runtime) makeContainer(ctx context.Context, id string, pod *sandbox.Record, config *runtimeapi.ContainerConfig, img *image.Image) (*container.Record, error) {
	volumes, err := rt.prepareImageMounts(ctx, id, config)
	if err != nil {
		return nil, err
	}
	sandboxConfig := pod.Config.Full()
	plan, err := container.Make(&container.Input{
		ID: id, Config: config, Sandbox: sandboxConfig, Image: img,
		Files: sandbox.FilesIn(rt.sandboxDir.Path(pod.ID)), Shm: pod.Shm,
		Tree: rt.images.Tree(img.Lower()), ImageMounts: volumes.paths,
		HostNetwork: sandbox.HostNetwork(sandboxConfig), UserNamespace: sandbox.UserNamespace(sandboxConfig),
	})
	if err != nil {
		return nil, err
	}
	kept, err := container.NewConfig(config)
	if err != nil {
		return nil, fmt.Errorf("encode the container's configuration: %w", err)
	}
	record := &container.Record{
		ID: id, SandboxID: pod.ID, Config: kept, ImageID: img.ID, ImageRef: imageRef(img),
		Lower: img.Lower(), MountedLow: volumes.layers, CreatedAt: time.Now(), User: plan.User, StopSignal: plan.StopSignal,
	}
	if config.GetLogPath() != "" && sandboxConfig.GetLogDirectory() != "" {
		record.LogPath = filepath.Join(sandboxConfig.GetLogDirectory(), config.GetLogPath())
	}
	if err := rt.containerDir.Create(id); err != nil {
		return nil, err
	}
	if err := rt.writePlan(id, &startPlan{Plan: *plan, Volumes: volumes.mounts}); err != nil {
		return nil, err
	}
	if err := rt.makeRoot(record, sandboxConfig, img); err != nil {
		return nil, err
	}
	if err := rt.containerDir.Save(id, record); err != nil {
		return nil, err
	}
	rt.images.Hold(append(record.Lower, record.MountedLow...))
	return record, nil
}

// imageRef is what names an image's content for good: a digest in a registry, else its ID.
func imageRef(img *image.Image) string {
	if len(img.RepoDigests) > 0 {
		return img.RepoDigests[0]
	}
	return img.ID
}

// makeRoot makes the folders of the container's own layer, owned by the pod's root user.
func (rt *Runtime) makeRoot(record *container.Record, pod *runtimeapi.PodSandboxConfig, img *image.Image) error {
	dir := rt.containerDir.Path(record.ID)
	top := os.FileMode(0o755)
	uid, gid := 0, 0
	if info, err := os.Stat(filepath.Join(rt.images.LayerDir(), img.Lower()[0])); err == nil {
		top = info.Mode().Perm()
	}
	if sandbox.UserNamespace(pod) {
		options := sandbox.Options(pod).GetUsernsOptions()
		uid, gid = int(options.GetUids()[0].GetHostId()), int(options.GetGids()[0].GetHostId())
	}
	for name, mode := range map[string]os.FileMode{"upper": top, "work": 0o711} {
		path := filepath.Join(dir, name)
		err := os.Mkdir(path, mode)
		if err == nil {
			err = os.Chmod(path, mode) // whatever this process's mask is
		}
		if err == nil && uid != 0 {
			err = os.Chown(path, uid, gid)
		}
		if err != nil {
			return fmt.Errorf("create the container's layer: %w", err)
		}
	}
	return nil
}

// startPlan is what is kept of a plan until the start, and for processes that join later.
type startPlan struct {
	container.Plan
	Volumes []wire.Volume
}

func (rt *Runtime) planPath(id string) string {
	return filepath.Join(rt.containerDir.Path(id), "plan.json")
}

func (rt *Runtime) writePlan(id string, plan *startPlan) error {
	data, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	if err := os.WriteFile(rt.planPath(id), data, 0o600); err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	return nil
}

func (rt *Runtime) readPlan(id string) (*startPlan, error) {
	data, err := os.ReadFile(rt.planPath(id))
	if err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	plan := &startPlan{}
	if err := json.Unmarshal(data, plan); err != nil {
		return nil, fmt.Errorf("read plan of container %s: %w", id, err)
	}
	return plan, nil
}

// StartContainer starts a container.
func (rt *Runtime) StartContainer(ctx context.Context, request *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	st, err := rt.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	record := st.record.Load()
	if record.State() != runtimeapi.ContainerState_CONTAINER_CREATED {
		return nil, status.Errorf(codes.FailedPrecondition, "container %q is in state %v", record.ID, record.State())
	}
	sb, err := rt.sandbox(record.SandboxID)
	if err != nil {
		return nil, err
	}
	pod := sb.record.Load()
	if !pod.Ready || sb.stopping.Load() {
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox container %q is not running", pod.ID)
	}
	started := *record
	if err := rt.startContainer(ctx, &started); err != nil {
		now := time.Now()
		started.StartedAt = now
		started.Failure = err.Error()
		started.Exit = &wire.Exit{Code: startErrorCode, Known: true, FinishedAt: now}
		st.record.Store(&started)
		close(st.ended)
		return nil, fmt.Errorf("failed to start container %q: %w", record.ID, errors.Join(err, rt.containerDir.Save(record.ID, &started)))
	}
	st.record.Store(&started)
	if err := rt.containerDir.Save(record.ID, &started); err != nil {
		// The container runs; a restart of this process learns of it from the keeper.
		rt.log.Error("a container's record could not be written", "container", record.ID, "error", err)
	}
	rt.emit(record.ID, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT, pod)
	return &runtimeapi.StartContainerResponse{}, nil
}

func (rt *Runtime) startContainer(ctx context.Context, record *container.Record) error {
	plan, err := rt.readPlan(record.ID)
	if err != nil {
		return err
	}
	if record.LogPath != "" {
		if err := os.MkdirAll(filepath.Dir(record.LogPath), 0o755); err != nil {
			return fmt.Errorf("create the log's folder: %w", err)
		}
	}
	dir := rt.containerDir.Path(record.ID)
	joinPIDOf, err := rt.fullContainerID(plan.JoinPIDOf)
	if err != nil {
		return err
	}
	config := record.Config.Full()
	// The container starts even if the caller stops waiting: a start is not half done.
	started, err := rt.keeper.StartContainer(context.WithoutCancel(ctx), &wire.Start{
		ID: record.ID, Sandbox: record.SandboxID, Spec: plan.Spec, Join: plan.Join, JoinPIDOf: joinPIDOf,
		Rootfs: wire.Overlay{
			Base: rt.images.LayerDir(), Lower: record.Lower,
			Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
		},
		Volumes: plan.Volumes,
		Seccomp: plan.Filter.Program, SeccompFlags: plan.Filter.Flags,
		LogPath: record.LogPath, Terminal: config.GetTty(),
		Stdin: config.GetStdin(), StdinOnce: config.GetStdinOnce(),
	})
	if err != nil {
		return err
	}
	record.PID, record.StartedAt = started.PID, started.StartedAt
	return nil
}

func (rt *Runtime) fullContainerID(id string) (string, error) {
	if id == "" {
		return "", nil
	}
	st, err := rt.container(id)
	if err != nil {
		return "", fmt.Errorf("find the target container: %w", err)
	}
	return st.record.Load().ID, nil
}

// containerEnded takes note of an end that the keeper reported.
func (rt *Runtime) containerEnded(exit wire.Container) {
	st, err := rt.container(exit.ID)
	if err != nil {
		return // removed meanwhile
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	record := st.record.Load()
	if record.Exit != nil {
		return
	}
	ended := *record
	ended.Exit, ended.PID = exit.Exit, exit.PID
	if ended.StartedAt.IsZero() {
		ended.StartedAt = exit.StartedAt
	}
	st.record.Store(&ended)
	close(st.ended)
	if err := rt.containerDir.Save(ended.ID, &ended); err != nil {
		// The keeper's own record of the exit is durable; a restart reads it there.
		rt.log.Error("a container's record could not be written", "container", ended.ID, "error", err)
	}
	rt.emitFor(&ended, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

// RemoveContainer removes a container, also one that runs.
func (rt *Runtime) RemoveContainer(ctx context.Context, request *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	st, err := rt.container(request.GetContainerId())
	if isNotFound(err) {
		return &runtimeapi.RemoveContainerResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &runtimeapi.RemoveContainerResponse{}, rt.removeContainer(ctx, st)
}

func (rt *Runtime) removeContainer(ctx context.Context, st *containerState) error {
	if err := rt.stopContainer(ctx, st, 0); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	record := st.record.Load()
	rt.mu.Lock()
	_, there := rt.containers[record.ID]
	rt.mu.Unlock()
	if !there {
		return nil // removed by another call meanwhile
	}
	if err := rt.keeper.RemoveContainer(ctx, record.ID); err != nil {
		return fmt.Errorf("remove container %s: %w", record.ID, err)
	}
	if err := rt.trash.take(rt.containerDir.Path(record.ID)); err != nil {
		return fmt.Errorf("remove container %s: %w", record.ID, err)
	}
	rt.mu.Lock()
	delete(rt.containers, record.ID)
	rt.mu.Unlock()
	rt.images.Release(append(slices.Clone(record.Lower), record.MountedLow...))
	rt.unreserve(containerName(record.SandboxID, record.Config.Metadata))
	rt.usage.forget(record.ID)
	rt.emitFor(record, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	return nil
}
