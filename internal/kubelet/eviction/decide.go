package eviction

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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
	return &Victim{Pod: victim.Pod, Message: message(c, victim), GraceSeconds: grace}
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

func message(c Crossing, u *Usage) string {
	res := c.Signal.Resource()
	format := resource.BinarySI
	if res == "pids" || res == "inodes" {
		format = resource.DecimalSI
	}
	threshold, available := resource.NewQuantity(c.Value.Of(c.Observed.Capacity), format), resource.NewQuantity(c.Observed.Available, format)
	text := fmt.Sprintf("The node was low on resource: %v. Threshold quantity: %v, available: %v. ", res, threshold, kilo(available))
	for _, list := range [][]corev1.Container{u.Pod.Spec.InitContainers, u.Pod.Spec.Containers} {
		for i := range list {
			used, ok := u.Containers[list[i].Name]
			if !ok {
				continue
			}
			var amount int64
			switch res {
			case corev1.ResourceMemory:
				amount = used.Memory
			case corev1.ResourceEphemeralStorage:
				amount = used.Disk
			default:
				continue
			}
			request := list[i].Resources.Requests[res]
			if amount > request.Value() {
				text += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %v. ", list[i].Name, kilo(resource.NewQuantity(amount, format)), request.String(), res)
			}
		}
	}
	return text
}

// kilo rounds bytes to what people read.
func kilo(q *resource.Quantity) string {
	if q.Format == resource.BinarySI && q.Value() >= 1<<10 {
		return resource.NewQuantity(q.Value()>>10<<10, resource.BinarySI).String()
	}
	return q.String()
}

// OverLimit tells whether a pod exceeds a limit of its own on local storage, and says how; "" is not. volumes are the sizes of its emptyDirs on disk.
func OverLimit(u *Usage, volumes map[string]int64) string {
	for i := range u.Pod.Spec.Volumes {
		v := &u.Pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if used, ok := volumes[v.Name]; ok && used > v.EmptyDir.SizeLimit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	for i := range u.Pod.Spec.Containers {
		c := &u.Pod.Spec.Containers[i]
		if limit, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]; ok && u.Containers[c.Name].Disk > limit.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
		}
	}
	limits := resourcehelper.PodLimits(u.Pod, resourcehelper.PodResourcesOptions{})
	if limit, ok := limits[corev1.ResourceEphemeralStorage]; ok && u.Disk > limit.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
	return ""
}

// Limited tells whether the pod has a limit on local storage, so that it has to be measured.
func Limited(pod *corev1.Pod) bool {
	if slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault && v.EmptyDir.SizeLimit != nil && v.EmptyDir.SizeLimit.Sign() > 0
	}) {
		return true
	}
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		_, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]
		return ok
	})
}
