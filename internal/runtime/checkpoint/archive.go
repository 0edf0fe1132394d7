package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What lies where in an archive.
const (
	imagesDir    = "checkpoint"
	configDump   = "config.dump"
	specDump     = "spec.dump"
	statusDump   = "status.dump"
	statusFile   = "status"
	rootDiff     = "rootfs-diff.tar"
	containerLog = "container.log"
)

// Container is a running container to checkpoint.
type Container struct {
	ID, Name string
	Pod      *runtimeapi.PodSandboxMetadata
	PodID    string
	PID      int
	Spec     *specs.Spec
	Status   *runtimeapi.ContainerStatus
	Terminal bool
	// SharedProcesses tells that the process namespace is the pod's.
	SharedProcesses bool
	// Cgroup and Freezer are folders: where the processes are listed, and by which they are frozen, if there is one.
	Cgroup, Freezer string
	// Upper is the container's own layer, as overlayfs keeps it.
	Upper string
}

// config is how Podman, CRI-O and containerd tell what was checkpointed.
type config struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`
	RootfsImage     string    `json:"rootfsImage,omitempty"`
	RootfsImageRef  string    `json:"rootfsImageRef,omitempty"`
	RootfsImageName string    `json:"rootfsImageName,omitempty"`
	OCIRuntime      string    `json:"runtime,omitempty"`
	CreatedTime     time.Time `json:"createdTime"`
	CheckpointedAt  time.Time `json:"checkpointedTime"`
	RestoredAt      time.Time `json:"restoredTime"`
	Restored        bool      `json:"restored"`
}

// containerdStatus is what checkpointctl reads the times of.
type containerdStatus struct {
	Version    string
	Pid        uint32
	CreatedAt  int64
	StartedAt  int64
	FinishedAt int64
	ExitCode   int32
	Reason     string
	Message    string
}

// Write checkpoints a container to an archive. scratch is a folder that may be made and removed, on a disk with room.
func (c *Container) Write(scratch, location string) (err error) {
	if err := os.RemoveAll(scratch); err != nil { // of a daemon that was killed
		return fmt.Errorf("remove a former checkpoint: %w", err)
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return fmt.Errorf("create the checkpoint's folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if err := c.dump(scratch); err != nil {
		return fmt.Errorf("checkpointing container %q failed: %w", c.ID, err)
	}
	if err := c.describe(scratch); err != nil {
		return err
	}
	if err := writeDiff(filepath.Join(scratch, rootDiff), c.Upper); err != nil {
		return fmt.Errorf("write what the container changed in its image: %w", err)
	}
	if err := copyLog(c.Status.GetLogPath(), filepath.Join(scratch, containerLog)); err != nil {
		return err
	}
	return writeArchive(location, scratch)
}

func (c *Container) describe(dir string) error {
	image := c.Status.GetImage().GetImage()
	return errors.Join(
		writeJSON(filepath.Join(dir, configDump), config{
			ID: c.ID, Name: c.Name, RootfsImage: image, RootfsImageRef: c.Status.GetImageRef(), RootfsImageName: image,
			OCIRuntime: "runc", CreatedTime: time.Unix(0, c.Status.GetCreatedAt()), CheckpointedAt: time.Now(),
		}),
		writeJSON(filepath.Join(dir, specDump), c.annotated()),
		writeJSON(filepath.Join(dir, statusDump), c.Status),
		writeJSON(filepath.Join(dir, statusFile), containerdStatus{
			Version: "v1", Pid: uint32(c.PID), CreatedAt: c.Status.GetCreatedAt(), StartedAt: c.Status.GetStartedAt(),
		}),
	)
}

// annotated is the specification with what tells whose container it is, by containerd's names.
func (c *Container) annotated() *specs.Spec {
	spec := *c.Spec
	spec.Root = &specs.Root{Path: "rootfs", Readonly: c.Spec.Root.Readonly}
	const prefix = "io.kubernetes.cri."
	spec.Annotations = map[string]string{
		prefix + "container-type": "container", prefix + "container-name": c.Name, prefix + "image-name": c.Status.GetImage().GetImage(),
		prefix + "sandbox-id": c.PodID, prefix + "sandbox-name": c.Pod.GetName(), prefix + "sandbox-namespace": c.Pod.GetNamespace(),
		prefix + "sandbox-uid": c.Pod.GetUid(),
	}
	return &spec
}

// copyLog copies a log; there may be none.
func copyLog(from, to string) error {
	if from == "" {
		return nil
	}
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("copy the container's log: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copy the container's log: %w", err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy the container's log: %w", err)
	}
	return nil
}
