package lifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// State is what a container does.
type State int

// The states that a runtime reports.
const (
	Unknown State = iota
	Created
	Running
	Exited
)

func (s State) String() string {
	return [...]string{"unknown", "created", "running", "exited"}[s]
}

// Observed is what the runtime knows of one pod, newest first. Read-only once made.
type Observed struct {
	// RuntimeName prefixes container IDs in statuses: "containerd".
	RuntimeName string
	Sandboxes   []Sandbox
	Containers  []Container
}

// Sandbox is one pod sandbox.
type Sandbox struct {
	ID          string
	Attempt     uint32
	Ready       bool
	HostNetwork bool
	CreatedAt   time.Time
	IPs         []string
}

// Container is one container of a pod, running or not.
type Container struct {
	ID, Name, SandboxID string
	RestartCount        int32
	State               State

	CreatedAt, StartedAt, FinishedAt time.Time
	ExitCode                         int32
	Reason, Message                  string

	Image    string // as the pod named it
	ImageRef string // by digest
	ImageID  string // in the runtime
	// Applied is what the container is granted now, as Input.Resources writes it; "" is unknown.
	Applied string
	// Hash is that of the container's spec when it was made.
	Hash    string
	LogPath string

	Resources  *corev1.ResourceRequirements // in force, as far as the runtime tells
	User       *corev1.ContainerUser
	StopSignal *corev1.Signal
	// ImageVolumes maps where image volumes are mounted to the images.
	ImageVolumes map[string]string
}

// Container returns the newest container of a name.
func (o *Observed) Container(name string) *Container {
	for i := range o.Containers {
		if o.Containers[i].Name == name {
			return &o.Containers[i]
		}
	}
	return nil
}

// RunningContainers returns those that run, or may.
func (o *Observed) RunningContainers() []*Container {
	var out []*Container
	for i := range o.Containers {
		if s := o.Containers[i].State; s == Running || s == Unknown {
			out = append(out, &o.Containers[i])
		}
	}
	return out
}

// Sandbox returns the newest sandbox.
func (o *Observed) Sandbox() *Sandbox {
	if len(o.Sandboxes) == 0 {
		return nil
	}
	return &o.Sandboxes[0]
}

// IPs returns the pod's addresses: those of a ready sandbox.
func (o *Observed) IPs() []string {
	if s := o.Sandbox(); s != nil && s.Ready {
		return s.IPs
	}
	return nil
}

// Verdict is what a probe found last.
type Verdict int

// A probe that has not run yet is Pending; one that does not exist has NoProbe.
const (
	NoProbe Verdict = iota
	Pending
	Success
	Failure
)

// Health is what the probes of one container found.
type Health struct {
	Startup, Liveness, Readiness Verdict
}

// HealthFunc returns the health of a container by its name and ID.
type HealthFunc func(name, containerID string) Health
