package server

import (
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"clipper.dev/clipper/internal/kubelet/cgroups"
)

// The families of pressure in /metrics/cadvisor; a node whose kernel counts none has none of them.
var (
	cpuStalled    = counter("container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", containerLabels...)
	cpuWaiting    = counter("container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", containerLabels...)
	memoryStalled = counter("container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", containerLabels...)
	memoryWaiting = counter("container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", containerLabels...)
	ioStalled     = counter("container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", containerLabels...)
	ioWaiting     = counter("container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", containerLabels...)
)

const micro = 1e6

// pressures are those of one group.
type pressures struct{ cpu, memory, io *stats.PSIStats }

func pressuresOf(u *cgroups.Usage) pressures {
	return pressures{&u.CPUPressure, &u.MemoryPressure, &u.IOPressure}
}

func containerPressures(c *runtimeapi.ContainerStats) pressures {
	return pressures{pressure(c.GetCpu().GetPsi()), pressure(c.GetMemory().GetPsi()), pressure(c.GetIo().GetPsi())}
}

func (p pressures) add(out *sheet, at time.Time, labels []string) {
	for _, one := range []struct {
		stalled, waiting family
		of               *stats.PSIStats
	}{{cpuStalled, cpuWaiting, p.cpu}, {memoryStalled, memoryWaiting, p.memory}, {ioStalled, ioWaiting, p.io}} {
		out.add(one.stalled, at, float64(one.of.Full.Total)/micro, labels...)
		out.add(one.waiting, at, float64(one.of.Some.Total)/micro, labels...)
	}
}

// pressure is what a runtime tells of it; zeros where that is nothing.
func pressure(p *runtimeapi.PsiStats) *stats.PSIStats {
	convert := func(d *runtimeapi.PsiData) stats.PSIData {
		return stats.PSIData{Total: d.GetTotal(), Avg10: d.GetAvg10(), Avg60: d.GetAvg60(), Avg300: d.GetAvg300()}
	}
	return &stats.PSIStats{Full: convert(p.GetFull()), Some: convert(p.GetSome())}
}
