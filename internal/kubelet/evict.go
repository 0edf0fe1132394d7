package kubelet

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/eviction"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/node"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

const (
	evictionInterval = 10 * time.Second
	// cleanupPatience is how long the next look waits for what was evicted to be gone.
	cleanupPatience = 30 * time.Second
)

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

// run looks at the node at intervals until ctx ends, and after an eviction as soon as the pods have given back what they had.
func (e *evictor) run(ctx context.Context) error {
	timer := time.NewTimer(evictionInterval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		next := evictionInterval
		if evicted := e.look(ctx); len(evicted) > 0 {
			e.awaitCleanup(ctx, evicted)
			next = 0
		}
		timer.Reset(next)
	}
}

// awaitCleanup waits until nothing of the pods holds the node's resources.
func (e *evictor) awaitCleanup(ctx context.Context, evicted []types.UID) {
	ctx, cancel := context.WithTimeout(ctx, cleanupPatience)
	defer cancel()
	for _, uid := range evicted {
		if e.k.pods.await(ctx, uid, e.k.pods.isCleaned) != nil {
			return
		}
	}
}

// look measures the node once and returns the pods that it evicts.
func (e *evictor) look(ctx context.Context) []types.UID {
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
	if evicted := e.enforceLimits(ctx); len(evicted) > 0 || len(due) == 0 {
		return evicted
	}
	crossing := due[0]
	e.k.logger.Warn("an eviction threshold is crossed", "signal", crossing.Signal, "available", crossing.Observed.Available)
	e.k.events.Eventf(node.Reference(e.k.cfg.NodeName), corev1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim %s", crossing.Signal.Resource())
	if crossing.Signal.Disk() && e.reclaimed(ctx, crossing) {
		return nil
	}
	victim := eviction.Choose(crossing, e.usages(ctx, func(*corev1.Pod) bool { return true }), int64(e.k.cfg.Settings.EvictionMaxPodGracePeriod))
	if victim == nil {
		e.k.logger.Error("no pod can be evicted", "signal", crossing.Signal)
		return nil
	}
	if !e.evict(string(crossing.Signal), victim) {
		return nil
	}
	e.k.metrics.evictionStatsAge.WithLabelValues(string(crossing.Signal)).Observe(time.Since(now).Seconds())
	return []types.UID{victim.Pod.UID}
}

// evict ends a pod; false if it is ending already.
func (e *evictor) evict(signal string, v *eviction.Victim) bool {
	request := &killRequest{
		verdict: lifecycle.PodVerdict{Phase: corev1.PodFailed, Reason: eviction.Reason, Message: v.Message}, grace: &v.GraceSeconds,
		disrupt: &corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: v.Message},
	}
	if !e.k.evict(v.Pod.UID, request) {
		return false
	}
	e.k.metrics.evictions.WithLabelValues(signal).Inc()
	e.k.events.Record(events.Event{About: criconfig.PodReference(v.Pod), Type: corev1.EventTypeWarning, Reason: eviction.Reason, Message: v.Message, Annotations: v.Annotations})
	e.k.logger.Warn("pod evicted", "pod", v.Pod.Namespace+"/"+v.Pod.Name, "message", v.Message)
	return true
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

// reclaimed removes dead containers of pods that have finished, then unused images, and tells whether that was enough.
func (e *evictor) reclaimed(ctx context.Context, c eviction.Crossing) bool {
	if err := e.removeFinished(ctx); err != nil {
		e.k.logger.Warn("dead containers not removed", "error", err)
	}
	if err := e.k.collector.DeleteUnused(ctx); err != nil {
		e.k.logger.Warn("images not removed", "error", err)
	}
	o, ok := e.observe(ctx)[c.Signal]
	return ok && o.Available >= c.Value.Of(o.Capacity)+c.Reclaim.Of(o.Capacity)
}

// removeFinished removes what the runtime keeps of the containers of pods whose end the API knows: their statuses don't need it any more.
func (e *evictor) removeFinished(ctx context.Context) error {
	var errs []error
	for _, s := range e.k.pods.list() {
		if !s.Told || s.Observed == nil {
			continue
		}
		for i := range s.Observed.Containers {
			errs = append(errs, e.k.removeContainer(ctx, &s.Observed.Containers[i]))
		}
		e.k.pods.changed(s.Pod.UID)
	}
	return errors.Join(errs...)
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
			u.Disk += used.Disk
			u.Inodes += used.Inodes
		}
		out = append(out, u)
	}
	return out
}

// emptyDirs measures the pod's emptyDirs on disk.
func (e *evictor) emptyDirs(pod *corev1.Pod) map[string]eviction.VolumeUsage {
	out := map[string]eviction.VolumeUsage{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault {
			bytes, inodes := volumes.Usage(filepath.Join(e.k.volumes.PodDir(pod.UID), "volumes", "kubernetes.io~empty-dir", v.Name))
			out[v.Name] = eviction.VolumeUsage{Disk: int64(bytes), Inodes: int64(inodes)}
		}
	}
	return out
}

// enforceLimits ends pods that exceed their own limits on local storage and returns them. Only those that have some are measured.
func (e *evictor) enforceLimits(ctx context.Context) (evicted []types.UID) {
	limited := false
	for _, s := range e.k.pods.list() {
		limited = limited || !s.Ending && eviction.Limited(s.Pod)
	}
	if !limited {
		return nil
	}
	for _, u := range e.usages(ctx, eviction.Limited) {
		if signal, victim := eviction.OverLimit(&u, e.emptyDirs(u.Pod)); victim != nil && e.evict(signal, victim) {
			evicted = append(evicted, u.Pod.UID)
		}
	}
	return evicted
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
