package container

import (
	"encoding/json"
	"fmt"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/keeper/wire"
)

// Record is what is kept of a container. Records are replaced, never changed.
type Record struct {
	ID         string
	SandboxID  string
	Config     Config `json:"-"` // kept in its own encoding
	ImageID    string
	ImageRef   string
	Lower      []string // the image's layers, relative to the store's folder, the uppermost first
	MountedLow []string // layers of images that are mounted as volumes
	LogPath    string   // absolute; empty for none
	CreatedAt  time.Time
	StartedAt  time.Time // zero until it is started
	PID        int
	User       User
	StopSignal string
	Exit       *wire.Exit // nil until it has ended
	// Failure says why the container could not be started.
	Failure string
}

// recordJSON keeps the configuration in its own encoding, which keeps every field.
type recordJSON struct {
	Plain  plainRecord
	Config []byte
}

type plainRecord Record

// MarshalJSON implements json.Marshaler.
func (r *Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(recordJSON{plainRecord(*r), r.Config.Bytes()})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Record) UnmarshalJSON(data []byte) error {
	var form recordJSON
	if err := json.Unmarshal(data, &form); err != nil {
		return err
	}
	config, err := decodeConfig(form.Config)
	if err != nil {
		return fmt.Errorf("decode container configuration: %w", err)
	}
	*r = Record(form.Plain)
	r.Config = config
	return nil
}

// State is the container's state in the interface's terms.
func (r *Record) State() runtimeapi.ContainerState {
	switch {
	case r.Exit != nil:
		return runtimeapi.ContainerState_CONTAINER_EXITED
	case !r.StartedAt.IsZero():
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	return runtimeapi.ContainerState_CONTAINER_CREATED
}

// Summary is the container as lists show it.
func (r *Record) Summary() *runtimeapi.Container {
	return &runtimeapi.Container{
		Id: r.ID, PodSandboxId: r.SandboxID, Metadata: r.Config.Metadata, Image: r.Config.Image,
		ImageRef: r.ImageRef, ImageId: r.ImageID, State: r.State(), CreatedAt: r.CreatedAt.UnixNano(),
		Labels: r.Config.Labels, Annotations: r.Config.Annotations,
	}
}

// Status is the container's full status.
func (r *Record) Status() *runtimeapi.ContainerStatus {
	config := r.Config.Full()
	status := &runtimeapi.ContainerStatus{
		Id: r.ID, Metadata: r.Config.Metadata, State: r.State(), CreatedAt: r.CreatedAt.UnixNano(),
		Image: &runtimeapi.ImageSpec{
			Image: r.Config.Image.GetUserSpecifiedImage(), UserSpecifiedImage: r.Config.Image.GetUserSpecifiedImage(),
		},
		ImageRef: r.ImageRef, ImageId: r.ImageID, Labels: r.Config.Labels, Annotations: r.Config.Annotations,
		Mounts: config.GetMounts(), LogPath: r.LogPath, User: r.User.status(), StopSignal: signalEnum(r.StopSignal),
		Resources: &runtimeapi.ContainerResources{Linux: config.GetLinux().GetResources()},
	}
	if status.Image.Image == "" {
		status.Image.Image = r.Config.Image.GetImage()
	}
	if !r.StartedAt.IsZero() {
		status.StartedAt = r.StartedAt.UnixNano()
	}
	if r.Exit == nil {
		return status
	}
	status.FinishedAt = r.Exit.FinishedAt.UnixNano()
	status.ExitCode = int32(r.Exit.Code)
	status.Reason, status.Message = r.reason()
	return status
}

func (r *Record) reason() (reason, message string) {
	switch {
	case r.Failure != "":
		return "StartError", r.Failure
	case r.Exit.OOMKilled:
		return "OOMKilled", ""
	case !r.Exit.Known:
		return "Unknown", "the container ended while nobody watched it"
	case r.Exit.Code == 0:
		return "Completed", ""
	}
	return "Error", ""
}
