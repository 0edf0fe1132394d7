package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/container"
)

// ListContainers lists containers.
func (rt *Runtime) ListContainers(_ context.Context, request *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	return &runtimeapi.ListContainersResponse{Containers: rt.listContainers(request.GetFilter())}, nil
}

// StreamContainers lists containers piece by piece.
func (rt *Runtime) StreamContainers(request *runtimeapi.StreamContainersRequest, stream runtimeapi.RuntimeService_StreamContainersServer) error {
	return inPieces(rt.listContainers(request.GetFilter()), func(piece []*runtimeapi.Container) error {
		return stream.Send(&runtimeapi.StreamContainersResponse{Containers: piece})
	})
}

func (rt *Runtime) listContainers(filter *runtimeapi.ContainerFilter) []*runtimeapi.Container {
	var list []*runtimeapi.Container
	for _, record := range rt.containerRecords(func(record *container.Record) bool {
		return strings.HasPrefix(record.ID, filter.GetId()) && strings.HasPrefix(record.SandboxID, filter.GetPodSandboxId()) &&
			matches(record.Config.Labels, filter.GetLabelSelector()) &&
			(filter.GetState() == nil || filter.GetState().GetState() == record.State())
	}) {
		list = append(list, record.Summary())
	}
	return list
}

// containerRecords returns the wanted containers in the order of their creation.
func (rt *Runtime) containerRecords(wanted func(*container.Record) bool) []*container.Record {
	var list []*container.Record
	rt.mu.Lock()
	for _, st := range rt.containers {
		if record := st.record.Load(); wanted(record) {
			list = append(list, record)
		}
	}
	rt.mu.Unlock()
	slices.SortFunc(list, func(a, b *container.Record) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return list
}

func everyContainer(*container.Record) bool { return true }

func isRunning(record *container.Record) bool {
	return record.State() == runtimeapi.ContainerState_CONTAINER_RUNNING
}

func (rt *Runtime) statusesOf(sandboxID string) []*runtimeapi.ContainerStatus {
	var list []*runtimeapi.ContainerStatus
	for _, record := range rt.containerRecords(func(record *container.Record) bool { return record.SandboxID == sandboxID }) {
		list = append(list, record.Status())
	}
	return list
}

// ContainerStatus tells how a container is.
func (rt *Runtime) ContainerStatus(_ context.Context, request *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	st, err := rt.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	record := st.record.Load()
	response := &runtimeapi.ContainerStatusResponse{Status: record.Status()}
	if !request.GetVerbose() {
		return response, nil
	}
	plan, err := rt.readPlan(record.ID)
	if err != nil {
		return nil, err
	}
	info, err := json.Marshal(map[string]any{
		"pid": record.PID, "sandboxID": record.SandboxID, "config": record.Config.Full(), "runtimeSpec": plan.Spec,
	})
	if err != nil {
		return nil, fmt.Errorf("encode container info: %w", err)
	}
	response.Info = map[string]string{"info": string(info)}
	return response, nil
}
