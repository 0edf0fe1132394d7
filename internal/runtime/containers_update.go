package runtime

import (
	"context"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/keeper/wire"
	"clipper.dev/clipper/internal/runtime/container"
)

// UpdateContainerResources changes a container's limits in place.
func (rt *Runtime) UpdateContainerResources(ctx context.Context, request *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	st, err := rt.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	record := st.record.Load()
	changed := *record
	config := record.Config.Full()
	if config.Linux == nil {
		config.Linux = &runtimeapi.LinuxContainerConfig{}
	}
	config.Linux.Resources = container.Merge(config.Linux.Resources, request.GetLinux())
	if changed.Config, err = container.NewConfig(config); err != nil {
		return nil, fmt.Errorf("encode the container's configuration: %w", err)
	}
	switch record.State() {
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		update := &wire.Update{ID: record.ID, Resources: container.Resources(request.GetLinux())}
		if err := rt.keeper.Update(ctx, update); err != nil {
			return nil, fmt.Errorf("update container %s: %w", record.ID, err)
		}
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		if err := rt.replan(record.ID, container.Resources(config.Linux.Resources)); err != nil {
			return nil, err
		}
	default:
		return nil, status.Errorf(codes.FailedPrecondition, "container %q has ended", record.ID)
	}
	if err := rt.containerDir.Save(changed.ID, &changed); err != nil {
		return nil, err
	}
	st.record.Store(&changed)
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

// replan changes the limits with which a container will start.
func (rt *Runtime) replan(id string, resources *specs.LinuxResources) error {
	plan, err := rt.readPlan(id)
	if err != nil {
		return err
	}
	resources.Devices = plan.Spec.Linux.Resources.Devices
	plan.Spec.Linux.Resources = resources
	return rt.writePlan(id, plan)
}

// ReopenContainerLog continues a container's log in a new file.
func (rt *Runtime) ReopenContainerLog(ctx context.Context, request *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	st, err := rt.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	record := st.record.Load()
	if record.State() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, status.Errorf(codes.FailedPrecondition, "container %q is not running", record.ID)
	}
	return &runtimeapi.ReopenContainerLogResponse{}, rt.keeper.ReopenLog(ctx, record.ID)
}
