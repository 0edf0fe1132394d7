package server

import (
	"cmp"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"clipper.dev/clipper/internal/kubelet/cgroups"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// serveSummary answers with the numbers of the node and its pods.
func (s *server) serveSummary(w http.ResponseWriter, r *http.Request) {
	onlyCPUAndMemory := strings.EqualFold(r.FormValue("only_cpu_and_memory"), "true")
	read, rates := s.meter.readRates(r.Context())
	summary := stats.Summary{Node: s.nodeStats(r.Context(), &read, rates, !onlyCPUAndMemory), Pods: []stats.PodStats{}}
	for i := range read.pods {
		one := s.podStats(&read, &read.pods[i], rates, !onlyCPUAndMemory)
		if !onlyCPUAndMemory && s.Volumes != nil {
			one.VolumeStats = append(one.VolumeStats, s.Volumes(r.Context(), read.pods[i].pod.UID)...)
		}
		summary.Pods = append(summary.Pods, one)
	}
	slices.SortFunc(summary.Pods, func(a, b stats.PodStats) int {
		return cmp.Or(cmp.Compare(a.PodRef.Namespace, b.PodRef.Namespace), cmp.Compare(a.PodRef.Name, b.PodRef.Name))
	})
	s.writeJSON(w, summary)
}

func rate(rates map[string]uint64, key string) *uint64 {
	if v, ok := rates[key]; ok {
		return &v
	}
	return nil
}

func usageStats(at time.Time, u *cgroups.Usage, nano *uint64) (*stats.CPUStats, *stats.MemoryStats) {
	stamp := metav1.NewTime(at)
	return &stats.CPUStats{Time: stamp, UsageNanoCores: nano, UsageCoreNanoSeconds: &u.CPUNanoseconds, PSI: &u.CPUPressure},
		&stats.MemoryStats{
			Time: stamp, UsageBytes: &u.MemoryBytes, WorkingSetBytes: &u.WorkingSetBytes, RSSBytes: &u.RSSBytes, PageFaults: &u.PageFaults, MajorPageFaults: &u.MajorPageFaults,
			PSI: &u.MemoryPressure,
		}
}

func ioStats(at time.Time, u *cgroups.Usage) *stats.IOStats {
	return &stats.IOStats{Time: metav1.NewTime(at), PSI: &u.IOPressure}
}

func swapStats(at time.Time, u *cgroups.Usage) *stats.SwapStats {
	out := &stats.SwapStats{Time: metav1.NewTime(at), SwapUsageBytes: &u.SwapBytes}
	if u.SwapLimit != cgroups.NoLimit {
		available := u.SwapLimit - min(u.SwapLimit, u.SwapBytes)
		out.SwapAvailableBytes = &available
	}
	return out
}

// defaultInterface is the one whose numbers stand for a node's own, where it has one of this name.
const defaultInterface = "eth0"

func (s *server) nodeStats(ctx context.Context, r *reading, rates map[string]uint64, all bool) stats.NodeStats {
	out := stats.NodeStats{NodeName: s.NodeName, StartTime: metav1.NewTime(bootTime())}
	out.CPU, out.Memory = usageStats(r.at, &r.node, rate(rates, nodeKey))
	memory := s.Capacity[corev1.ResourceMemory]
	available := uint64(memory.Value()) - min(uint64(memory.Value()), r.node.WorkingSetBytes)
	out.Memory.AvailableBytes = &available
	out.Swap, out.IO = swapStats(r.at, &r.node), ioStats(r.at, &r.node)
	if r.all != nil {
		cpu, mem := usageStats(r.at, r.all, rate(rates, allPodsKey))
		if limit := r.all.MemoryLimit; limit != cgroups.NoLimit {
			available := limit - min(limit, r.all.WorkingSetBytes)
			mem.AvailableBytes = &available
		}
		out.SystemContainers = append(out.SystemContainers, stats.ContainerStats{Name: stats.SystemContainerPods, StartTime: out.StartTime, CPU: cpu, Memory: mem, Swap: swapStats(r.at, r.all), IO: ioStats(r.at, r.all)})
	}
	if !all {
		return out
	}
	out.Fs = FileSystem(s.RootDir, r.at)
	out.Runtime = &stats.RuntimeStats{ImageFs: s.imageStats(ctx, r.at)}
	out.Runtime.ContainerFs = out.Runtime.ImageFs
	out.Rlimit = rlimitStats(r.at)
	out.Network = &stats.NetworkStats{Time: metav1.NewTime(r.at)}
	for name, t := range r.network {
		if name == "lo" {
			continue
		}
		one := stats.InterfaceStats{Name: name, RxBytes: &t.rx, RxErrors: &t.rxErrors, TxBytes: &t.tx, TxErrors: &t.txErrors}
		out.Network.Interfaces = append(out.Network.Interfaces, one)
		if name == defaultInterface {
			out.Network.InterfaceStats = one
		}
	}
	slices.SortFunc(out.Network.Interfaces, func(a, b stats.InterfaceStats) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (s *server) imageStats(ctx context.Context, at time.Time) *stats.FsStats {
	info, err := s.Runtime.Images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil || len(info.ImageFilesystems) == 0 {
		return nil
	}
	fs := info.ImageFilesystems[0]
	out := FileSystem(fs.GetFsId().GetMountpoint(), at)
	if out == nil {
		return nil
	}
	used, inodes := fs.GetUsedBytes().GetValue(), fs.GetInodesUsed().GetValue()
	out.UsedBytes, out.InodesUsed = &used, &inodes
	return out
}

// FileSystem returns the numbers of the file system that a path lies on; nil if they can't be read.
func FileSystem(path string, at time.Time) *stats.FsStats {
	var st unix.Statfs_t
	if path == "" || unix.Statfs(path, &st) != nil {
		return nil
	}
	size := uint64(st.Bsize)
	available, capacity, used := st.Bavail*size, st.Blocks*size, (st.Blocks-st.Bfree)*size
	free, inodes, inodesUsed := st.Ffree, st.Files, st.Files-st.Ffree
	return &stats.FsStats{Time: metav1.NewTime(at), AvailableBytes: &available, CapacityBytes: &capacity, UsedBytes: &used, InodesFree: &free, Inodes: &inodes, InodesUsed: &inodesUsed}
}

func rlimitStats(at time.Time) *stats.RlimitStats {
	limit, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return nil
	}
	maximum, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64)
	if err != nil {
		return nil
	}
	out := &stats.RlimitStats{Time: metav1.NewTime(at), MaxPID: &maximum}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		running := int64(info.Procs)
		out.NumOfRunningProcesses = &running
	}
	return out
}

func bootTime() time.Time {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second).Truncate(time.Second)
}

func (s *server) podStats(r *reading, p *podReading, rates map[string]uint64, all bool) stats.PodStats {
	out := stats.PodStats{PodRef: stats.PodReference{Name: p.pod.Name, Namespace: p.pod.Namespace, UID: string(p.pod.UID)}, Containers: []stats.ContainerStats{}}
	if p.pod.Status.StartTime != nil {
		out.StartTime = *p.pod.Status.StartTime
	}
	out.CPU, out.Memory = usageStats(r.at, &p.usage, rate(rates, podKey(p)))
	if limit := p.usage.MemoryLimit; limit != cgroups.NoLimit {
		available := limit - min(limit, p.usage.WorkingSetBytes)
		out.Memory.AvailableBytes = &available
	}
	out.Swap, out.IO = swapStats(r.at, &p.usage), ioStats(r.at, &p.usage)
	out.ProcessStats = &stats.ProcessStats{ProcessCount: &p.usage.Processes}
	var storage uint64
	for _, c := range p.containers {
		one := containerStats(p, c, rate(rates, containerKey(c)))
		if all {
			storage += s.addStorage(&one, p, c, r.at)
		}
		out.Containers = append(out.Containers, one)
	}
	slices.SortFunc(out.Containers, func(a, b stats.ContainerStats) int { return cmp.Compare(a.Name, b.Name) })
	if !all {
		return out
	}
	out.Network = networkStats(p.network, r.at)
	storage += s.addVolumes(&out, p, r.at)
	out.EphemeralStorage = FileSystem(s.RootDir, r.at)
	if out.EphemeralStorage != nil {
		out.EphemeralStorage.UsedBytes = &storage
	}
	return out
}

func containerStats(p *podReading, c *runtimeapi.ContainerStats, nano *uint64) stats.ContainerStats {
	out := stats.ContainerStats{Name: c.GetAttributes().GetMetadata().GetName()}
	if seen := find(p.pod.Observed, c.GetAttributes().GetId()); seen != nil {
		out.StartTime = metav1.NewTime(seen.StartedAt)
	}
	value := func(v *runtimeapi.UInt64Value) *uint64 {
		if v == nil {
			return nil
		}
		return &v.Value
	}
	if cpu := c.GetCpu(); cpu != nil {
		if v := value(cpu.UsageNanoCores); v != nil {
			nano = v
		}
		out.CPU = &stats.CPUStats{Time: metav1.NewTime(time.Unix(0, cpu.Timestamp)), UsageNanoCores: nano, UsageCoreNanoSeconds: value(cpu.UsageCoreNanoSeconds), PSI: pressure(cpu.Psi)}
	}
	if mem := c.GetMemory(); mem != nil {
		out.Memory = &stats.MemoryStats{
			Time: metav1.NewTime(time.Unix(0, mem.Timestamp)), AvailableBytes: value(mem.AvailableBytes), UsageBytes: value(mem.UsageBytes),
			WorkingSetBytes: value(mem.WorkingSetBytes), RSSBytes: value(mem.RssBytes), PageFaults: value(mem.PageFaults), MajorPageFaults: value(mem.MajorPageFaults),
			PSI: pressure(mem.Psi),
		}
	}
	if io := c.GetIo(); io != nil {
		out.IO = &stats.IOStats{Time: metav1.NewTime(time.Unix(0, io.Timestamp)), PSI: pressure(io.Psi)}
	}
	if swap := c.GetSwap(); swap != nil {
		out.Swap = &stats.SwapStats{Time: metav1.NewTime(time.Unix(0, swap.Timestamp)), SwapUsageBytes: value(swap.SwapUsageBytes), SwapAvailableBytes: value(swap.SwapAvailableBytes)}
	}
	return out
}

// addStorage adds the numbers of a container's layer and of its logs, within those of the file systems that they lie on. It returns how much both take.
func (s *server) addStorage(out *stats.ContainerStats, p *podReading, c *runtimeapi.ContainerStats, at time.Time) (taken uint64) {
	if layer := c.GetWritableLayer(); layer != nil {
		if out.Rootfs = FileSystem(layer.GetFsId().GetMountpoint(), time.Unix(0, layer.Timestamp)); out.Rootfs == nil {
			out.Rootfs = &stats.FsStats{Time: metav1.NewTime(time.Unix(0, layer.Timestamp))}
		}
		used, inodes := layer.GetUsedBytes().GetValue(), layer.GetInodesUsed().GetValue()
		out.Rootfs.UsedBytes, out.Rootfs.InodesUsed = &used, &inodes
		taken += used
	}
	if seen := find(p.pod.Observed, c.GetAttributes().GetId()); seen != nil && filepath.IsAbs(seen.LogPath) {
		dir := filepath.Dir(seen.LogPath)
		if out.Logs = FileSystem(dir, at); out.Logs != nil {
			used, inodes := volumes.Usage(dir)
			out.Logs.UsedBytes, out.Logs.InodesUsed = &used, &inodes
			taken += used
		}
	}
	return taken
}

func networkStats(n *runtimeapi.NetworkUsage, at time.Time) *stats.NetworkStats {
	if n == nil {
		return nil
	}
	convert := func(i *runtimeapi.NetworkInterfaceUsage) stats.InterfaceStats {
		rx, rxe, tx, txe := i.GetRxBytes().GetValue(), i.GetRxErrors().GetValue(), i.GetTxBytes().GetValue(), i.GetTxErrors().GetValue()
		return stats.InterfaceStats{Name: i.GetName(), RxBytes: &rx, RxErrors: &rxe, TxBytes: &tx, TxErrors: &txe}
	}
	out := &stats.NetworkStats{Time: metav1.NewTime(at), InterfaceStats: convert(n.DefaultInterface)}
	out.Interfaces = append(out.Interfaces, out.InterfaceStats)
	for _, i := range n.Interfaces {
		out.Interfaces = append(out.Interfaces, convert(i))
	}
	return out
}

// addVolumes adds the numbers of the pod's volumes and returns how much local storage they take.
func (s *server) addVolumes(out *stats.PodStats, p *podReading, at time.Time) uint64 {
	var local uint64
	for i := range p.pod.Spec.Volumes {
		v := &p.pod.Spec.Volumes[i]
		if v.EmptyDir == nil {
			continue
		}
		dir := filepath.Join(s.RootDir, "pods", string(p.pod.UID), "volumes", "kubernetes.io~empty-dir", v.Name)
		fs := FileSystem(dir, at)
		if fs == nil {
			continue
		}
		if v.EmptyDir.Medium == corev1.StorageMediumDefault {
			used, inodes := volumes.Usage(dir)
			fs.UsedBytes, fs.InodesUsed = &used, &inodes
			local += used
		}
		out.VolumeStats = append(out.VolumeStats, stats.VolumeStats{Name: v.Name, FsStats: *fs})
	}
	return local
}
