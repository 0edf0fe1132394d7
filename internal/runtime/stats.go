package runtime

import (
	"context"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/container"
	"clipper.dev/clipper/internal/runtime/metrics"
	"clipper.dev/clipper/internal/runtime/sandbox"
)

// ContainerStats measures one container.
func (rt *Runtime) ContainerStats(_ context.Context, request *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	st, err := rt.container(request.GetContainerId())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatsResponse{Stats: rt.measure(st.record.Load())}, nil
}

// ListContainerStats measures all containers that run.
func (rt *Runtime) ListContainerStats(_ context.Context, request *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	return &runtimeapi.ListContainerStatsResponse{Stats: rt.containerStats(request.GetFilter())}, nil
}

// StreamContainerStats measures all containers that run, and answers piece by piece.
func (rt *Runtime) StreamContainerStats(request *runtimeapi.StreamContainerStatsRequest, stream runtimeapi.RuntimeService_StreamContainerStatsServer) error {
	return inPieces(rt.containerStats(request.GetFilter()), func(piece []*runtimeapi.ContainerStats) error {
		return stream.Send(&runtimeapi.StreamContainerStatsResponse{ContainerStats: piece})
	})
}

func (rt *Runtime) containerStats(filter *runtimeapi.ContainerStatsFilter) []*runtimeapi.ContainerStats {
	var list []*runtimeapi.ContainerStats
	for _, record := range rt.containerRecords(isRunning) {
		if !strings.HasPrefix(record.ID, filter.GetId()) || !strings.HasPrefix(record.SandboxID, filter.GetPodSandboxId()) ||
			!matches(record.Config.Labels, filter.GetLabelSelector()) {
			continue
		}
		list = append(list, rt.measure(record))
	}
	return list
}

// measure reads a container's control group and its layer's size.
func (rt *Runtime) measure(record *container.Record) *runtimeapi.ContainerStats {
	stats := &runtimeapi.ContainerStats{Attributes: &runtimeapi.ContainerAttributes{
		Id: record.ID, Metadata: record.Config.Metadata, Labels: record.Config.Labels, Annotations: record.Config.Annotations,
	}}
	used := rt.usage.of(record.ID, rt.upperDir(record.ID))
	stats.WritableLayer = &runtimeapi.FilesystemUsage{
		Timestamp: used.at.UnixNano(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: rt.cfg.StateDir},
		UsedBytes: &runtimeapi.UInt64Value{Value: used.bytes}, InodesUsed: &runtimeapi.UInt64Value{Value: used.inodes},
	}
	st, err := rt.sandbox(record.SandboxID)
	if err != nil || !isRunning(record) {
		return stats
	}
	group := readCgroup(sandbox.Cgroup(st.record.Load().Config.Full(), record.ID))
	stats.Cpu = group.cpu(rt.usage.rate(record.ID, group.cpuNanos, group.at))
	stats.Memory = group.memory()
	stats.Swap = group.swap()
	stats.Io = group.io()
	return stats
}

// PodSandboxStats measures one pod.
func (rt *Runtime) PodSandboxStats(_ context.Context, request *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	st, err := rt.sandbox(request.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: rt.measurePod(st.record.Load())}, nil
}

// ListPodSandboxStats measures all pods that are ready.
func (rt *Runtime) ListPodSandboxStats(_ context.Context, request *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	return &runtimeapi.ListPodSandboxStatsResponse{Stats: rt.podStats(request.GetFilter())}, nil
}

// StreamPodSandboxStats measures all pods that are ready, and answers piece by piece.
func (rt *Runtime) StreamPodSandboxStats(request *runtimeapi.StreamPodSandboxStatsRequest, stream runtimeapi.RuntimeService_StreamPodSandboxStatsServer) error {
	return inPieces(rt.podStats(request.GetFilter()), func(piece []*runtimeapi.PodSandboxStats) error {
		return stream.Send(&runtimeapi.StreamPodSandboxStatsResponse{PodSandboxStats: piece})
	})
}

func (rt *Runtime) podStats(filter *runtimeapi.PodSandboxStatsFilter) []*runtimeapi.PodSandboxStats {
	var list []*runtimeapi.PodSandboxStats
	for _, item := range rt.listSandboxes(&runtimeapi.PodSandboxFilter{Id: filter.GetId(), LabelSelector: filter.GetLabelSelector()}) {
		st, err := rt.sandbox(item.GetId())
		if err != nil || !st.record.Load().Ready {
			continue // gone meanwhile, or nothing to measure
		}
		list = append(list, rt.measurePod(st.record.Load()))
	}
	return list
}

func (rt *Runtime) measurePod(record *sandbox.Record) *runtimeapi.PodSandboxStats {
	config := record.Config.Full()
	group := readCgroup(config.GetLinux().GetCgroupParent())
	linux := &runtimeapi.LinuxPodSandboxStats{
		Cpu: group.cpu(rt.usage.rate(record.ID, group.cpuNanos, group.at)), Memory: group.memory(), Io: group.io(),
		Process:    &runtimeapi.ProcessUsage{Timestamp: group.at.UnixNano(), ProcessCount: &runtimeapi.UInt64Value{Value: group.pids}},
		Containers: rt.containerStats(&runtimeapi.ContainerStatsFilter{PodSandboxId: record.ID}),
	}
	if !sandbox.HostNetwork(config) {
		linux.Network = rt.networkUsage(record.ID)
	}
	return &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{
			Id: record.ID, Metadata: record.Config.Metadata, Labels: record.Config.Labels, Annotations: record.Config.Annotations,
		},
		Linux: linux,
	}
}

// networkUsage reads the pod's interfaces through one of its processes.
func (rt *Runtime) networkUsage(sandboxID string) *runtimeapi.NetworkUsage {
	usage := &runtimeapi.NetworkUsage{Timestamp: time.Now().UnixNano()}
	for _, record := range rt.containerRecords(isRunning) {
		if record.SandboxID != sandboxID {
			continue
		}
		for _, read := range metrics.ReadInterfaces(record.PID) {
			face := &runtimeapi.NetworkInterfaceUsage{
				Name:    read.Name,
				RxBytes: &runtimeapi.UInt64Value{Value: read.Receive.Bytes}, RxErrors: &runtimeapi.UInt64Value{Value: read.Receive.Errors},
				TxBytes: &runtimeapi.UInt64Value{Value: read.Transmit.Bytes}, TxErrors: &runtimeapi.UInt64Value{Value: read.Transmit.Errors},
			}
			if usage.DefaultInterface == nil {
				usage.DefaultInterface = face
				continue
			}
			usage.Interfaces = append(usage.Interfaces, face)
		}
		break
	}
	return usage
}
