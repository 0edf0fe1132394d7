package eviction

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// Reason is that of an evicted pod's status and of its event.
const Reason = "Evicted"

const (
	criticalPriority = 2000000000
	// immediately is the grace period of a hard threshold, in seconds.
	immediately = int64(1)
)

// Observation is one measurement.
type Observation struct {
	Available, Capacity int64
}

// Threshold is a bound on a signal. A soft one may be crossed for Grace. Once it has been crossed it stays so until Reclaim more than its value is free.
type Threshold struct {
	Signal  Signal
	Value   Value
	Reclaim Value
	Soft    bool
	Grace   time.Duration
}

// Usage is what one pod uses.
type Usage struct {
	Pod *corev1.Pod
	// Memory is the working set, Disk local storage in bytes, Inodes their number, PIDs processes.
	Memory, Disk, Inodes, PIDs int64
	// Containers is the same for each container, by name.
	Containers map[string]ContainerUsage
}

// ContainerUsage is what one container uses.
type ContainerUsage struct {
	Memory, Disk, Inodes int64
}

// VolumeUsage is what one emptyDir uses.
type VolumeUsage struct {
	Disk, Inodes int64
}

// Crossing is a threshold that is crossed.
type Crossing struct {
	Threshold
	Observed Observation
}

// Crossed returns the thresholds that are crossed now, of those whose grace is over, given since when each has been crossed and which were due at the
// last look. It brings since up to date.
func Crossed(thresholds []Threshold, seen map[Signal]Observation, since map[Threshold]time.Time, last []Crossing, now time.Time) (all, due []Crossing) {
	for _, t := range thresholds {
		o, ok := seen[t.Signal]
		if !ok {
			continue
		}
		enough := t.Value.Of(o.Capacity)
		if slices.ContainsFunc(last, func(c Crossing) bool { return c.Threshold == t }) {
			enough += t.Reclaim.Of(o.Capacity)
		}
		if o.Available >= enough {
			delete(since, t)
			continue
		}
		if since[t].IsZero() {
			since[t] = now
		}
		c := Crossing{t, o}
		all = append(all, c)
		if now.Sub(since[t]) >= t.Grace {
			due = append(due, c)
		}
	}
	// Memory comes first: a node without it dies at once.
	slices.SortStableFunc(due, func(a, b Crossing) int { return cmp.Compare(order(a.Signal), order(b.Signal)) })
	return all, due
}

func order(s Signal) int {
	if s == MemoryAvailable || s == AllocatableMemoryAvailable {
		return 0
	}
	return 1
}

// Resource names what a signal measures, in messages.
func (s Signal) Resource() corev1.ResourceName {
	switch s {
	case MemoryAvailable, AllocatableMemoryAvailable:
		return corev1.ResourceMemory
	case NodeFSAvailable, ImageFSAvailable:
		return corev1.ResourceEphemeralStorage
	case PIDAvailable:
		return "pids"
	}
	return "inodes"
}

// Disk tells whether removing images and dead containers can help.
func (s Signal) Disk() bool {
	return s.Resource() == corev1.ResourceEphemeralStorage || s.Resource() == "inodes"
}

// Victim is the pod to end and why.
type Victim struct {
	Pod          *corev1.Pod
	Message      string
	Annotations  map[string]string // of the event
	GraceSeconds int64
}

// Choose returns the pod to end for a crossing: those that use more than they requested first, then by priority, then by how much they exceed. Critical
// pods stay. Nil is nobody.
func Choose(c Crossing, pods []Usage, maxGrace int64) *Victim {
	candidates := slices.Clone(pods)
	candidates = slices.DeleteFunc(candidates, func(u Usage) bool {
		return lifecycle.IsStatic(u.Pod) || u.Pod.Spec.Priority != nil && *u.Pod.Spec.Priority >= criticalPriority
	})
	if len(candidates) == 0 {
		return nil
	}
	slices.SortStableFunc(candidates, func(a, b Usage) int {
		return cmp.Or(
			boolCompare(excess(c.Signal, &b) > 0, excess(c.Signal, &a) > 0),
			cmp.Compare(priority(a.Pod), priority(b.Pod)),
			cmp.Compare(excess(c.Signal, &b), excess(c.Signal, &a)))
	})
	victim := &candidates[0]
	grace := immediately
	if c.Soft {
		grace = maxGrace
		if own := victim.Pod.Spec.TerminationGracePeriodSeconds; own != nil {
			grace = min(grace, *own)
		}
	}
	message, annotations := explain(c, victim)
	return &Victim{Pod: victim.Pod, Message: message, Annotations: annotations, GraceSeconds: grace}
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

// excess is what a pod uses beyond its request.
func excess(s Signal, u *Usage) int64 {
	requests := resourcehelper.PodRequests(u.Pod, resourcehelper.PodResourcesOptions{})
	switch s {
	case MemoryAvailable, AllocatableMemoryAvailable:
		return u.Memory - requests.Memory().Value()
	case NodeFSAvailable, ImageFSAvailable:
		return u.Disk - requests.StorageEphemeral().Value()
	case PIDAvailable:
		return u.PIDs
	}
	return u.Inodes
}
