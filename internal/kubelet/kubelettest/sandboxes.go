package kubelettest

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func missing(what, id string) error {
	return status.Errorf(codes.NotFound, "%s %q not found", what, id)
}

// RunPodSandbox makes a sandbox that is ready at once.
func (r *Runtime) RunPodSandbox(_ context.Context, req *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.id("s")
	s := &sandbox{config: req.Config, created: time.Now().UnixNano(), ready: true}
	if req.Config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() != runtimeapi.NamespaceMode_NODE {
		s.ip = fmt.Sprintf("10.1.0.%d", r.next)
	}
	r.sandboxes[id] = s
	r.calls = append(r.calls, "sandbox "+req.Config.Metadata.Name)
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// StopPodSandbox stops a sandbox and all in it.
func (r *Runtime) StopPodSandbox(_ context.Context, req *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[req.PodSandboxId]
	if s == nil {
		return nil, missing("sandbox", req.PodSandboxId)
	}
	for _, c := range r.containers {
		if c.sandbox == req.PodSandboxId {
			r.exit(c, 137, "")
		}
	}
	if s.ready {
		s.ready = false
		r.calls = append(r.calls, "stop-sandbox "+s.config.Metadata.Name)
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

// RemovePodSandbox removes a sandbox and all in it.
func (r *Runtime) RemovePodSandbox(_ context.Context, req *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, c := range r.containers {
		if c.sandbox == req.PodSandboxId {
			delete(r.containers, id)
		}
	}
	delete(r.sandboxes, req.PodSandboxId)
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (r *Runtime) sandboxStatus(id string, s *sandbox) *runtimeapi.PodSandboxStatus {
	st := &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: s.config.Metadata, CreatedAt: s.created, Labels: s.config.Labels, State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY,
		Network: &runtimeapi.PodSandboxNetworkStatus{},
		Linux:   &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: s.config.GetLinux().GetSecurityContext().GetNamespaceOptions()}},
	}
	if s.ready {
		st.State = runtimeapi.PodSandboxState_SANDBOX_READY
		st.Network.Ip = s.ip
	}
	return st
}

// PodSandboxStatus describes a sandbox.
func (r *Runtime) PodSandboxStatus(_ context.Context, req *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[req.PodSandboxId]
	if s == nil {
		return nil, missing("sandbox", req.PodSandboxId)
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: r.sandboxStatus(req.PodSandboxId, s)}, nil
}

func selected(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// ListPodSandbox lists sandboxes by labels.
func (r *Runtime) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListPodSandboxResponse{}
	for id, s := range r.sandboxes {
		if selected(s.config.Labels, req.GetFilter().GetLabelSelector()) {
			st := r.sandboxStatus(id, s)
			out.Items = append(out.Items, &runtimeapi.PodSandbox{Id: id, Metadata: st.Metadata, State: st.State, CreatedAt: st.CreatedAt, Labels: st.Labels})
		}
	}
	return out, nil
}
