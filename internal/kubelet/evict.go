package kubelet

import (
	"context"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/eviction"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/node"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

const evictionInterval = 10 * time.Second

// evictor keeps the node from running out of what cannot be shared.
type evictor struct {
	k         *Kubelet
	since     map[eviction.Threshold]time.Time
	lastMet   map[eviction.Signal]time.Time
	due       []eviction.Crossing // at the last look
	imagePath string
}

func newEvictor(k *Kubelet) *evictor {
	return &evictor{k: k, since: map[eviction.Threshold]time.Time{}, lastMet: map[eviction.Signal]time.Time{}}
}

// run looks at the node at intervals until ctx ends.
func (e *evictor) run(ctx context.Context) error {
	ticker := time.NewTicker(evictionInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			e.look(ctx)
		}
	}
}

func (e *evictor) look(ctx context.Context) {
	e.enforceLimits(ctx)
	now := time.Now()
	seen := e.observe(ctx)
	all, due := eviction.Crossed(e.k.cfg.parsed.thresholds, seen, e.since, e.due, now)
	e.due = due
	for _, c := range all {
		e.lastMet[c.Signal] = now
	}
	if e.k.pressure.set(e.conditions(now)) {
		e.k.node.Check()
	}
	if len(due) == 0 {
		return
	}
	crossing := due[0]
	e.k.logger.Warn("an eviction threshold is crossed", "signal", crossing.Signal, "available", crossing.Observed.Available)
	e.k.events.Eventf(node.Reference(e.k.cfg.NodeName), corev1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim %s", crossing.Signal.Resource())
	if crossing.Signal.Disk() && e.reclaimed(ctx, crossing) {
		return
	}
	victim := eviction.Choose(crossing, e.usages(ctx, func(*corev1.Pod) bool { return true }), int64(e.k.cfg.Settings.EvictionMaxPodGracePeriod))
	if victim == nil {
		e.k.logger.Error("no pod can be evicted", "signal", crossing.Signal)
		return
	}
	e.evict(victim.Pod, string(crossing.Signal), victim.Message, victim.GraceSeconds)
}

func (e *evictor) evict(pod *corev1.Pod, signal, message string, grace int64) {
	request := &killRequest{
		verdict: lifecycle.PodVerdict{Phase: corev1.PodFailed, Reason: eviction.Reason, Message: message}, grace: &grace,
		disrupt: &corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: message},
	}
	if e.k.evict(pod.UID, request) {
		e.k.metrics.evictions.WithLabelValues(signal).Inc()
		e.k.events.Event(criconfig.PodReference(pod), corev1.EventTypeWarning, eviction.Reason, message)
		e.k.logger.Warn("pod evicted", "pod", pod.Namespace+"/"+pod.Name, "message", message)
	}
}

func (e *evictor) conditions(now time.Time) node.Pressure {
	recent := func(signals ...eviction.Signal) bool {
		for _, s := range signals {
			if at, ok := e.lastMet[s]; ok && now.Sub(at) < e.k.cfg.Settings.EvictionPressureTransitionPeriod.Duration {
				return true
			}
		}
		return false
	}
	return node.Pressure{
		Memory: recent(eviction.MemoryAvailable, eviction.AllocatableMemoryAvailable), PID: recent(eviction.PIDAvailable),
		Disk: recent(eviction.NodeFSAvailable, eviction.NodeFSInodesFree, eviction.ImageFSAvailable, eviction.ImageFSInodesFree),
	}
}

// reclaimed removes unused images and tells whether that was enough.
func (e *evictor) reclaimed(ctx context.Context, c eviction.Crossing) bool {
	if err := e.k.collector.DeleteUnused(ctx); err != nil {
		e.k.logger.Warn("images not removed", "error", err)
	}
	o, ok := e.observe(ctx)[c.Signal]
	return ok && o.Available >= c.Value.Of(o.Capacity)+c.Reclaim.Of(o.Capacity)
}

// observe measures the node.
func (e *evictor) observe(ctx context.Context) map[eviction.Signal]eviction.Observation {
	out := map[eviction.Signal]eviction.Observation{}
	memory := e.k.machine.Capacity[corev1.ResourceMemory]
	if u, err := e.k.tree.NodeUsage(); err == nil {
		out[eviction.MemoryAvailable] = eviction.Observation{Available: memory.Value() - int64(u.WorkingSetBytes), Capacity: memory.Value()}
	}
	if u, err := e.k.tree.PodsUsage(); err == nil {
		bound := allocatable(e.k.capacity, e.k.cfg.reserved(e.k.capacity, false))
		mine := bound.Memory().Value()
		out[eviction.AllocatableMemoryAvailable] = eviction.Observation{Available: mine - int64(u.WorkingSetBytes), Capacity: mine}
	}
	disk := func(path string, space, inodes eviction.Signal) {
		var st unix.Statfs_t
		if path == "" || unix.Statfs(path, &st) != nil {
			return
		}
		out[space] = eviction.Observation{Available: int64(st.Bavail) * st.Bsize, Capacity: int64(st.Blocks) * st.Bsize}
		if st.Files > 0 { // some file systems make inodes as they go
			out[inodes] = eviction.Observation{Available: int64(st.Ffree), Capacity: int64(st.Files)}
		}
	}
	disk(e.k.cfg.RootDir, eviction.NodeFSAvailable, eviction.NodeFSInodesFree)
	if e.imagePath == "" {
		// Asked for until it's known; until then nothing is said of it.
		e.imagePath, _ = e.k.collector.Mountpoint(ctx)
	}
	disk(e.imagePath, eviction.ImageFSAvailable, eviction.ImageFSInodesFree)
	if limit, running, ok := processes(); ok {
		out[eviction.PIDAvailable] = eviction.Observation{Available: limit - running, Capacity: limit}
	}
	return out
}

// usages measures the pods that are chosen.
func (e *evictor) usages(ctx context.Context, choose func(*corev1.Pod) bool) []eviction.Usage {
	stats, err := e.k.cri.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{
		Filter: &runtimeapi.ContainerStatsFilter{LabelSelector: map[string]string{criconfig.OwnerLabel: e.k.cfg.owner()}},
	})
	if err != nil {
		e.k.logger.Warn("container numbers not read", "error", err)
	}
	byPod := map[string][]*runtimeapi.ContainerStats{}
	for _, s := range stats.GetStats() {
		uid := s.GetAttributes().GetLabels()[criconfig.PodUIDLabel]
		byPod[uid] = append(byPod[uid], s)
	}
	var out []eviction.Usage
	for _, s := range e.k.pods.list() {
		if s.Ending || s.Stopped || !choose(s.Pod) {
			continue
		}
		u := eviction.Usage{Pod: s.Pod, Containers: map[string]eviction.ContainerUsage{}}
		if used, err := e.k.tree.PodUsage(s.Pod); err == nil {
			u.Memory, u.PIDs = int64(used.WorkingSetBytes), int64(used.Processes)
		}
		for _, c := range byPod[string(s.Pod.UID)] {
			name := c.GetAttributes().GetMetadata().GetName()
			logBytes, logInodes := volumes.Usage(filepath.Join(e.k.translate.PodLogDir(s.Pod), name))
			one := eviction.ContainerUsage{
				Memory: int64(c.GetMemory().GetWorkingSetBytes().GetValue()),
				Disk:   int64(c.GetWritableLayer().GetUsedBytes().GetValue() + logBytes),
				Inodes: int64(c.GetWritableLayer().GetInodesUsed().GetValue() + logInodes),
			}
			u.Containers[name] = one
			u.Disk += one.Disk
			u.Inodes += one.Inodes
		}
		for _, used := range e.emptyDirs(s.Pod) {
			u.Disk += used
		}
		out = append(out, u)
	}
	return out
}

// emptyDirs measures the pod's emptyDirs on disk.
func (e *evictor) emptyDirs(pod *corev1.Pod) map[string]int64 {
	out := map[string]int64{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault {
			bytes, _ := volumes.Usage(filepath.Join(e.k.volumes.PodDir(pod.UID), "volumes", "kubernetes.io~empty-dir", v.Name))
			out[v.Name] = int64(bytes)
		}
	}
	return out
}

// enforceLimits ends pods that exceed their own limits on local storage. Only those that have some are measured.
func (e *evictor) enforceLimits(ctx context.Context) {
	limited := false
	for _, s := range e.k.pods.list() {
		limited = limited || !s.Ending && eviction.Limited(s.Pod)
	}
	if !limited {
		return
	}
	for _, u := range e.usages(ctx, eviction.Limited) {
		if why := eviction.OverLimit(&u, e.emptyDirs(u.Pod)); why != "" {
			e.evict(u.Pod, "ephemeralstorage", why, 1)
		}
	}
}

// processes returns how many process IDs there are and how many are taken.
func processes() (limit, running int64, ok bool) {
	limit, err := readInt("/proc/sys/kernel/pid_max")
	var info unix.Sysinfo_t
	if err != nil || unix.Sysinfo(&info) != nil {
		return 0, 0, false
	}
	if threads, err := readInt("/proc/sys/kernel/threads-max"); err == nil {
		limit = min(limit, threads)
	}
	return limit, int64(info.Procs), true
}
