package kubelettest

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CreateContainer makes a container.
func (r *Runtime) CreateContainer(_ context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[req.PodSandboxId]
	if s == nil || !s.ready {
		return nil, missing("sandbox", req.PodSandboxId)
	}
	id := r.id("c")
	c := &container{sandbox: req.PodSandboxId, config: req.Config, status: &runtimeapi.ContainerStatus{
		Id: id, Metadata: req.Config.Metadata, State: runtimeapi.ContainerState_CONTAINER_CREATED, CreatedAt: time.Now().UnixNano(),
		Image: &runtimeapi.ImageSpec{Image: req.Config.Image.UserSpecifiedImage}, ImageRef: req.Config.Image.Image, ImageId: req.Config.Image.Image,
		Labels: req.Config.Labels, Annotations: req.Config.Annotations, Mounts: req.Config.Mounts,
		LogPath: filepath.Join(s.config.LogDirectory, req.Config.LogPath),
	}}
	r.containers[id] = c
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

// StartContainer runs a container.
func (r *Runtime) StartContainer(_ context.Context, req *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[req.ContainerId]
	if c == nil {
		return nil, missing("container", req.ContainerId)
	}
	name := c.config.Metadata.Name
	r.calls = append(r.calls, "start "+name)
	if err := r.FailStart[name]; err != nil {
		c.status.State, c.status.ExitCode, c.status.Reason = runtimeapi.ContainerState_CONTAINER_EXITED, 128, "StartError"
		c.status.FinishedAt = time.Now().UnixNano()
		return nil, err
	}
	c.status.State, c.status.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now().UnixNano()
	r.send(req.ContainerId, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return &runtimeapi.StartContainerResponse{}, nil
}

// StopContainer ends a container, with 0 if it has the time that it takes and else with 137.
func (r *Runtime) StopContainer(ctx context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	r.mu.Lock()
	c := r.containers[req.ContainerId]
	if c == nil {
		r.mu.Unlock()
		return nil, missing("container", req.ContainerId)
	}
	r.calls = append(r.calls, fmt.Sprintf("stop %s %d", c.config.Metadata.Name, req.Timeout))
	takes := r.StopTakes
	r.mu.Unlock()
	grace := time.Duration(req.Timeout) * time.Second
	timer := time.NewTimer(min(takes, grace))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	code := int32(0)
	if takes > grace {
		code = 137
	}
	r.exit(c, code, "")
	return &runtimeapi.StopContainerResponse{}, nil
}

// RemoveContainer removes a container.
func (r *Runtime) RemoveContainer(_ context.Context, req *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, req.ContainerId)
	return &runtimeapi.RemoveContainerResponse{}, nil
}

// ContainerStatus describes a container.
func (r *Runtime) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[req.ContainerId]
	if c == nil {
		return nil, missing("container", req.ContainerId)
	}
	return &runtimeapi.ContainerStatusResponse{Status: proto.Clone(c.status).(*runtimeapi.ContainerStatus)}, nil
}

// ListContainers lists containers by labels.
func (r *Runtime) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListContainersResponse{}
	for id, c := range r.containers {
		if selected(c.config.Labels, req.GetFilter().GetLabelSelector()) {
			out.Containers = append(out.Containers, &runtimeapi.Container{
				Id: id, PodSandboxId: c.sandbox, Metadata: c.config.Metadata, State: c.status.State, CreatedAt: c.status.CreatedAt,
				Labels: c.config.Labels, Annotations: c.config.Annotations, ImageRef: c.status.ImageRef, Image: c.status.Image,
			})
		}
	}
	return out, nil
}

// ExecSync runs ExecFunc.
func (r *Runtime) ExecSync(_ context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	r.mu.Lock()
	fn := r.ExecFunc
	if c := r.containers[req.ContainerId]; c != nil {
		r.calls = append(r.calls, fmt.Sprintf("exec %s %v", c.config.Metadata.Name, req.Cmd))
	}
	r.mu.Unlock()
	if fn == nil {
		return &runtimeapi.ExecSyncResponse{}, nil
	}
	out, code, err := fn(req.ContainerId, req.Cmd)
	return &runtimeapi.ExecSyncResponse{Stdout: []byte(out), ExitCode: code}, err
}

// ImageStatus describes an image.
func (r *Runtime) ImageStatus(_ context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &runtimeapi.ImageStatusResponse{Image: r.images[req.Image.Image]}, nil
}

// PullImage fails for images that are not there: there is no registry.
func (r *Runtime) PullImage(_ context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulls[req.Image.Image]++
	if image := r.images[req.Image.Image]; image != nil {
		return &runtimeapi.PullImageResponse{ImageRef: image.Id}, nil
	}
	return nil, missing("image", req.Image.Image)
}

// ListImages lists the images.
func (r *Runtime) ListImages(context.Context, *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListImagesResponse{}
	for _, image := range r.images {
		out.Images = append(out.Images, image)
	}
	return out, nil
}

// UpdateContainerResources notes the call.
func (r *Runtime) UpdateContainerResources(_ context.Context, req *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[req.ContainerId]
	if c == nil {
		return nil, missing("container", req.ContainerId)
	}
	r.calls = append(r.calls, fmt.Sprintf("resize %s %d", c.config.Metadata.Name, req.Linux.CpuShares))
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

// ReopenContainerLog does nothing: containers write no logs.
func (r *Runtime) ReopenContainerLog(context.Context, *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	return &runtimeapi.ReopenContainerLogResponse{}, nil
}

// ListContainerStats tells the same of every container that runs.
func (r *Runtime) ListContainerStats(_ context.Context, req *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListContainerStatsResponse{}
	for id, c := range r.containers {
		if c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING || !selected(c.config.Labels, req.GetFilter().GetLabelSelector()) {
			continue
		}
		now := time.Now().UnixNano()
		out.Stats = append(out.Stats, &runtimeapi.ContainerStats{
			Attributes: &runtimeapi.ContainerAttributes{Id: id, Metadata: c.config.Metadata, Labels: c.config.Labels},
			Cpu:        &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: 1e9}},
			Memory:     &runtimeapi.MemoryUsage{Timestamp: now, WorkingSetBytes: &runtimeapi.UInt64Value{Value: 1 << 20}},
			Swap:       &runtimeapi.SwapUsage{Timestamp: now, SwapUsageBytes: &runtimeapi.UInt64Value{}, SwapAvailableBytes: &runtimeapi.UInt64Value{Value: 1 << 20}},
		})
	}
	return out, nil
}
