package wire

import (
	"encoding/json"
	"errors"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Version is the protocol's version. A keeper serves the versions up to its own; a daemon that needs a
// newer one asks the keeper to hand over to the binary that the daemon brings.
const Version = 1

// Hello is what each side says first.
type Hello struct {
	Version int
	PID     int    // of the sender
	Build   string // identifies the sender's binary by content
}

// Op names a call.
type Op string

// The calls of the protocol.
const (
	OpState         Op = "State"
	OpCreateSandbox Op = "CreateSandbox"
	OpRemoveSandbox Op = "RemoveSandbox"
	OpPrepare       Op = "Prepare"
	OpStart         Op = "Start"
	OpSignal        Op = "Signal"
	OpRemove        Op = "Remove"
	OpExec          Op = "Exec"
	OpAttach        Op = "Attach"
	OpResize        Op = "Resize"
	OpReopenLog     Op = "ReopenLog"
	OpUpdate        Op = "Update"
	OpEvents        Op = "Events"
	OpHandOver      Op = "HandOver"
	OpShutdown      Op = "Shutdown"
)

// Request is one call.
type Request struct {
	Op   Op
	Body json.RawMessage
}

// Response answers a Request; exactly one of Error and Body counts.
type Response struct {
	Error *Error          `json:",omitempty"`
	Body  json.RawMessage `json:",omitempty"`
}

// Code classifies an Error.
type Code string

// The codes of errors.
const (
	CodeInternal   Code = "Internal"
	CodeNotFound   Code = "NotFound"
	CodeExists     Code = "AlreadyExists"
	CodeNotRunning Code = "NotRunning"
	CodeInvalid    Code = "Invalid"
)

// Error is a failure on the keeper's side.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

// CodeOf tells the code of an error, CodeInternal if it has none.
func CodeOf(err error) Code {
	var wireErr *Error
	if errors.As(err, &wireErr) {
		return wireErr.Code
	}
	return CodeInternal
}

// Empty is the body of requests and responses that carry nothing.
type Empty struct{}

// IDMapping maps a range of user or group IDs of a user namespace.
type IDMapping struct {
	ContainerID, HostID, Size uint32
}

// CreateSandbox makes a pod's namespaces and holds them.
type CreateSandbox struct {
	ID       string
	Hostname string
	// New namespaces to make; what is not made is the host's.
	Network, IPC, UTS bool
	// PID makes a process namespace that the pod's containers share, with a reaper as its first process.
	PID bool
	// UIDs and GIDs, if given, make a user namespace that owns the others.
	UIDs, GIDs []IDMapping
	// Sysctls are set inside the new namespaces.
	Sysctls map[string]string
	// ShmBytes is the size of the pod's /dev/shm; 0 makes none.
	ShmBytes int64
	// Cgroup is where the reaper lives, relative to the root of every hierarchy.
	Cgroup string
}

// Sandbox is the state of a pod's namespaces.
type Sandbox struct {
	ID string
	// Namespaces maps a type ("network", "ipc", "uts", "pid", "user") to the path that opens it.
	Namespaces map[string]string
	// Shm is the host's path of the pod's /dev/shm; empty if it has none.
	Shm string
}

// Overlay is a container's root file system, mounted in the container's own mount namespace.
type Overlay struct {
	// Base is the directory that the entries of Lower are relative to.
	Base string
	// Lower lists the image's layers, the uppermost first.
	Lower []string
	Upper string
	Work  string
}

// Volume is an image that a container mounts to read. It is mounted in the container's own mount
// namespace, at the place that keeper.VolumePath tells.
type Volume struct {
	Name    string
	Base    string
	Lower   []string // the uppermost first
	SubPath string   // the part of the image to show; empty for all
}

// Start makes a container and starts its process.
type Start struct {
	ID      string
	Sandbox string
	// Spec is the container in OCI's terms. Root.Path and the namespaces listed in Join are filled in by the keeper.
	Spec *specs.Spec
	// Join lists the types of the sandbox's namespaces that the container enters.
	Join []specs.LinuxNamespaceType
	// JoinPIDOf is the container whose process namespace this one enters; empty for none.
	JoinPIDOf string
	Rootfs    Overlay
	Volumes   []Volume
	// Seccomp is the assembled filter (an array of sock_filter); empty for none.
	Seccomp      []byte
	SeccompFlags uint32
	LogPath      string // empty for no log
	Terminal     bool
	Stdin        bool
	StdinOnce    bool
}

// Started answers Start.
type Started struct {
	PID       int
	StartedAt time.Time
}

// Signal sends a signal to a container's first process or to all its processes.
type Signal struct {
	ID     string
	Signal int
	All    bool
}

// Target names a container or a sandbox.
type Target struct {
	ID string
}

// Resize sets a container's terminal size.
type Resize struct {
	ID            string
	Width, Height uint16
}

// Update changes a running container's resources.
type Update struct {
	ID        string
	Resources *specs.LinuxResources
}

// Exec runs a further process in a container. With Terminal set the response carries the terminal's
// master; else the request carries stdin, stdout and stderr. A second response, Exited, follows.
// Closing the connection before kills the process.
type Exec struct {
	ID            string
	Process       *specs.Process
	Seccomp       []byte
	SeccompFlags  uint32
	Terminal      bool
	Width, Height uint16
}

// ExecStarted answers Exec.
type ExecStarted struct {
	PID int
}

// ExecExited is the second response of Exec.
type ExecExited struct {
	Code int
}

// Attach connects to a container's streams. The request carries a file for each that is set, in the
// order stdin, stdout, stderr. The first response tells that the streams are connected; the second
// follows when the container's output has ended.
type Attach struct {
	ID                    string
	Stdin, Stdout, Stderr bool
}

// Exit tells how a container ended.
type Exit struct {
	Code       int
	Signal     int  // that killed it; 0 if it exited by itself
	OOMKilled  bool // the kernel killed a process of the container for its memory limit
	Known      bool // false: nobody could be asked for the code
	FinishedAt time.Time
}

// Container is what the keeper knows of a container.
type Container struct {
	ID        string
	Sandbox   string
	PID       int
	StartedAt time.Time
	Exit      *Exit // nil while it runs
}

// State answers OpState.
type State struct {
	Containers []Container
	Sandboxes  []Sandbox
}

// HandOver asks the keeper to become the binary at Path, keeping all it holds.
type HandOver struct {
	Path string
}

// Shutdown ends the keeper. Without Force it refuses while a container runs.
type Shutdown struct {
	Force bool
}
