package runtime

import (
	"context"
	"fmt"
	"path/filepath"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/checkpoint"
	"clipper.dev/clipper/internal/runtime/container"
	"clipper.dev/clipper/internal/runtime/sandbox"
)

// CheckpointContainer writes a running container's state to an archive, if the machine has CRIU; the container runs on.
func (rt *Runtime) CheckpointContainer(ctx context.Context, request *runtimeapi.CheckpointContainerRequest) (*runtimeapi.CheckpointContainerResponse, error) {
	if err := checkpoint.Available(ctx); err != nil {
		return nil, fmt.Errorf("failed to checkpoint container %q: %w", request.GetContainerId(), err)
	}
	st, err := rt.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	st.checkpoint.Lock()
	defer st.checkpoint.Unlock()
	record := st.record.Load()
	if !isRunning(record) {
		return nil, status.Errorf(codes.FailedPrecondition, "container %q is in %s state. only %s containers can be checkpointed",
			record.ID, record.State(), runtimeapi.ContainerState_CONTAINER_RUNNING)
	}
	described, err := rt.toCheckpoint(record)
	if err != nil {
		return nil, err
	}
	if err := described.Write(filepath.Join(rt.containerDir.Path(record.ID), "checkpoint"), request.GetLocation()); err != nil {
		return nil, err
	}
	rt.log.Info("wrote a checkpoint", "container", record.ID, "path", request.GetLocation())
	return &runtimeapi.CheckpointContainerResponse{}, nil
}

// toCheckpoint gathers what a checkpoint tells of a container.
func (rt *Runtime) toCheckpoint(record *container.Record) (*checkpoint.Container, error) {
	plan, err := rt.readPlan(record.ID)
	if err != nil {
		return nil, err
	}
	sb, err := rt.sandbox(record.SandboxID)
	if err != nil {
		return nil, err
	}
	pod := sb.record.Load()
	config := pod.Config.Full()
	group := sandbox.Cgroup(config, record.ID)
	described := &checkpoint.Container{
		ID: record.ID, Name: record.Config.Metadata.GetName(), Pod: pod.Config.Metadata, PodID: pod.ID,
		PID: record.PID, Spec: plan.Spec, Status: record.Status(), Terminal: record.Config.Full().GetTty(),
		SharedProcesses: sandbox.Options(config).GetPid() == runtimeapi.NamespaceMode_POD || plan.JoinPIDOf != "",
		Upper:           rt.upperDir(record.ID),
	}
	if container.UnifiedCgroups() {
		described.Cgroup = filepath.Join(cgroupRoot, group)
		described.Freezer = described.Cgroup
		return described, nil
	}
	described.Cgroup, described.Freezer = filepath.Join(cgroupRoot, "pids", group), filepath.Join(cgroupRoot, "freezer", group)
	return described, nil
}
