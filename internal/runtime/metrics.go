package runtime

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/container"
	"clipper.dev/clipper/internal/runtime/metrics"
	"clipper.dev/clipper/internal/runtime/sandbox"
)

// ListMetricDescriptors tells which metrics there may be.
func (rt *Runtime) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	return &runtimeapi.ListMetricDescriptorsResponse{Descriptors: metrics.Descriptors()}, nil
}

// ListPodSandboxMetrics tells the metrics of all pods that are ready.
func (rt *Runtime) ListPodSandboxMetrics(context.Context, *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	return &runtimeapi.ListPodSandboxMetricsResponse{PodMetrics: rt.podMetrics()}, nil
}

// StreamPodSandboxMetrics tells the metrics of all pods that are ready, and answers piece by piece.
func (rt *Runtime) StreamPodSandboxMetrics(_ *runtimeapi.StreamPodSandboxMetricsRequest, stream runtimeapi.RuntimeService_StreamPodSandboxMetricsServer) error {
	return inPieces(rt.podMetrics(), func(piece []*runtimeapi.PodSandboxMetrics) error {
		return stream.Send(&runtimeapi.StreamPodSandboxMetricsResponse{PodSandboxMetrics: piece})
	})
}

func (rt *Runtime) podMetrics() []*runtimeapi.PodSandboxMetrics {
	running := map[string][]*container.Record{}
	for _, record := range rt.containerRecords(isRunning) {
		running[record.SandboxID] = append(running[record.SandboxID], record)
	}
	var list []*runtimeapi.PodSandboxMetrics
	for _, item := range rt.listSandboxes(nil) {
		st, err := rt.sandbox(item.GetId())
		if err != nil || !st.record.Load().Ready {
			continue // gone meanwhile, or nothing to measure
		}
		list = append(list, rt.metricsOf(st.record.Load(), running[item.GetId()]))
	}
	return list
}

func (rt *Runtime) metricsOf(pod *sandbox.Record, running []*container.Record) *runtimeapi.PodSandboxMetrics {
	name, namespace := pod.Config.Metadata.GetName(), pod.Config.Metadata.GetNamespace()
	config := pod.Config.Full()
	result := &runtimeapi.PodSandboxMetrics{PodSandboxId: pod.ID}
	if !sandbox.HostNetwork(config) && len(running) > 0 {
		set := metrics.NewSet(name, namespace, "", pod.ID, "")
		set.AddInterfaces(metrics.ReadInterfaces(running[0].PID))
		result.Metrics = set.List
	}
	for _, record := range running {
		plan, err := rt.readPlan(record.ID)
		if err != nil {
			continue // removed meanwhile
		}
		set := metrics.NewSet(name, namespace, record.Config.Metadata.GetName(), record.ID, record.Config.Image.GetUserSpecifiedImage())
		set.AddTimes(record.StartedAt)
		set.AddCgroup(metrics.Cgroup{Path: sandbox.Cgroup(config, record.ID), Unified: container.UnifiedCgroups(), Disk: rt.disk()})
		set.AddFilesystem(rt.filesystemOf(record.ID))
		set.AddLimits(plan.Spec.Process.Rlimits, container.Resources(record.Config.Full().GetLinux().GetResources()))
		result.ContainerMetrics = append(result.ContainerMetrics, &runtimeapi.ContainerMetrics{ContainerId: record.ID, Metrics: set.List})
	}
	return result
}

// filesystemOf tells what a container's own layer takes, and what there is.
func (rt *Runtime) filesystemOf(id string) metrics.Filesystem {
	used := rt.usage.of(id, rt.upperDir(id))
	fs := metrics.Filesystem{UsedBytes: used.bytes, Inodes: used.inodes}
	var stat unix.Statfs_t
	if err := unix.Statfs(rt.cfg.StateDir, &stat); err == nil {
		fs.LimitBytes = stat.Blocks * uint64(stat.Bsize)
	}
	return fs
}

// disk returns the numbers of the device on which containers' own layers lie, "" if that's not a disk.
func (rt *Runtime) disk() string {
	var stat unix.Stat_t
	if err := unix.Stat(rt.cfg.StateDir, &stat); err != nil || unix.Major(stat.Dev) == 0 {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev))
}
