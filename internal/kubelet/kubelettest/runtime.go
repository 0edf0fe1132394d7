// Package kubelettest is a container runtime for tests: a CRI server in the test's process that runs nothing.
//
//	rt := kubelettest.Start(t)
//	rt.AddImage("busybox:latest")
//	… point a kubelet at rt.Endpoint …
//	rt.Exit(containerID, 1)
//
// Sandboxes and containers are entries of a map; a container runs until somebody stops it or the test calls Exit. Events are sent as a real runtime
// does, unless NoEvents is set before Start.
package kubelettest

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Runtime is a fake container runtime. Its exported fields may be set before the first call; its methods may be called concurrently.
type Runtime struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	// Endpoint is the socket, as a kubelet wants it.
	Endpoint string
	// ExecFunc answers ExecSync; nil succeeds without output.
	ExecFunc func(containerID string, cmd []string) (stdout string, code int32, err error)
	// FailStart makes starts of a container of this name fail.
	FailStart map[string]error
	// StopTakes is how long a container takes to end by itself.
	StopTakes time.Duration
	// NetworkProblem keeps the network from being ready.
	NetworkProblem string
	// NoEvents makes the runtime one without events.
	NoEvents bool

	mu         sync.Mutex
	next       int
	images     map[string]*runtimeapi.Image
	pulls      map[string]int
	sandboxes  map[string]*sandbox
	containers map[string]*container
	streams    map[chan *runtimeapi.ContainerEventResponse]bool
	calls      []string
	ranges     string
}

type sandbox struct {
	config  *runtimeapi.PodSandboxConfig
	created int64
	ready   bool
	ip      string
}

type container struct {
	sandbox string
	config  *runtimeapi.ContainerConfig
	status  *runtimeapi.ContainerStatus
}

// Start serves a runtime until the test ends.
func Start(t testing.TB) *Runtime {
	t.Helper()
	r := &Runtime{
		images: map[string]*runtimeapi.Image{}, pulls: map[string]int{}, sandboxes: map[string]*sandbox{}, containers: map[string]*container{},
		streams: map[chan *runtimeapi.ContainerEventResponse]bool{}, FailStart: map[string]error{},
	}
	path := filepath.Join(t.TempDir(), "cri.sock")
	r.Endpoint = "unix://" + path
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(s, r)
	runtimeapi.RegisterImageServiceServer(s, r)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(l); err != nil {
			t.Errorf("serve the fake runtime: %v", err)
		}
	})
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return r
}

// AddImage makes an image present.
func (r *Runtime) AddImage(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !strings.Contains(name, ":") {
		name += ":latest"
	}
	r.images[name] = &runtimeapi.Image{Id: "sha256:" + name, RepoTags: []string{name}, Size: 1000}
}

// Containers returns the IDs of the containers of a name, oldest first, and whether each runs.
func (r *Runtime) Containers(name string) (ids []string, running []bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.next + 1 {
		id := fmt.Sprintf("c%d", i)
		if c := r.containers[id]; c != nil && c.config.Metadata.Name == name {
			ids = append(ids, id)
			running = append(running, c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING)
		}
	}
	return ids, running
}

// Config returns what a container was made from.
func (r *Runtime) Config(id string) *runtimeapi.ContainerConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return c.config
	}
	return nil
}

// Sandboxes returns how many there are, and how many of them are ready.
func (r *Runtime) Sandboxes() (all, ready int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sandboxes {
		all++
		if s.ready {
			ready++
		}
	}
	return all, ready
}

// Calls returns the changing calls so far: "start app", "stop app 30".
func (r *Runtime) Calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.calls...)
}

// Ranges returns the pod range that the kubelet gave.
func (r *Runtime) Ranges() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ranges
}

// Exit ends a running container.
func (r *Runtime) Exit(id string, code int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		r.exit(c, code, "")
	}
}

func (r *Runtime) exit(c *container, code int32, reason string) {
	if c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return
	}
	if reason == "" {
		reason = "Completed"
		if code != 0 {
			reason = "Error"
		}
	}
	c.status.State, c.status.ExitCode, c.status.Reason = runtimeapi.ContainerState_CONTAINER_EXITED, code, reason
	c.status.FinishedAt = time.Now().UnixNano()
	r.send(c.status.Id, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

func (r *Runtime) id(prefix string) string {
	r.next++
	return fmt.Sprintf("%s%d", prefix, r.next)
}

func (r *Runtime) send(id, sandboxID string, t runtimeapi.ContainerEventType) {
	s := r.sandboxes[sandboxID]
	if s == nil {
		return
	}
	e := &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: t, CreatedAt: time.Now().UnixNano(), PodSandboxStatus: r.sandboxStatus(sandboxID, s)}
	for c := range r.streams {
		select {
		case c <- e:
		default:
		}
	}
}

// GetContainerEvents implements the runtime's event stream.
func (r *Runtime) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	if r.NoEvents {
		return status.Error(codes.Unimplemented, "no events")
	}
	c := make(chan *runtimeapi.ContainerEventResponse, 1000)
	r.mu.Lock()
	r.streams[c] = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.streams, c)
		r.mu.Unlock()
	}()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case e := <-c:
			if err := stream.Send(e); err != nil {
				return err
			}
		}
	}
}

// Version implements the runtime's version call.
func (r *Runtime) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "fake", RuntimeVersion: "1.0", RuntimeApiVersion: "v1"}, nil
}

// Status implements the runtime's status call.
func (r *Runtime) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	network := &runtimeapi.RuntimeCondition{Type: runtimeapi.NetworkReady, Status: r.NetworkProblem == "", Reason: "NetworkPluginNotReady", Message: r.NetworkProblem}
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true}, network,
	}}}, nil
}

// SetNetworkProblem changes NetworkProblem while the runtime runs.
func (r *Runtime) SetNetworkProblem(problem string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.NetworkProblem = problem
}

// UpdateRuntimeConfig implements the runtime's configuration call.
func (r *Runtime) UpdateRuntimeConfig(_ context.Context, req *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ranges = req.GetRuntimeConfig().GetNetworkConfig().GetPodCidr()
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}
