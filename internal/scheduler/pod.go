package scheduler

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	podresource "k8s.io/component-helpers/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
)

// Defaults that scores assume for containers that request nothing, as upstream's.
const (
	defaultScoredCPU = 100               // millicores
	defaultScoredMem = 200 * 1024 * 1024 // bytes
)

// podInfo is a pod and what the scheduler works out of it once.
type podInfo struct {
	pod       *corev1.Pod // read-only
	node      string      // where it is, or is assumed to be; "" if nowhere yet
	requests  []amount
	scoredCPU int64
	scoredMem int64
	ports     []hostPort
	priority  int32
	classKey  string
	reserved  bool // it stands for a preemptor that waits for the room

	// in the queue
	queuedAt  time.Time
	attempts  int
	refusedBy event // what the rules that refused it wait for
	readyAt   time.Time
	index     int // in its heap
	place     place
}

// amount is a quantity of one resource: millicores for the CPU, else the resource's own unit.
type amount struct {
	column int
	value  int64
}

func (c *cluster) newPodInfo(pod *corev1.Pod) *podInfo {
	p := &podInfo{pod: pod, node: pod.Spec.NodeName, priority: schedulinghelpers.PodPriority(pod), ports: hostPorts(pod)}
	options := podresource.PodResourcesOptions{UseStatusResources: true}
	p.requests = c.amounts(podresource.PodRequests(pod, options))
	options.NonMissingContainerRequests = scoredDefaults
	scored := podresource.PodRequests(pod, options)
	p.scoredCPU, p.scoredMem = scored.Cpu().MilliValue(), scored.Memory().Value()
	return p
}

// amounts puts a resource list in the order of the columns, with the pod itself as one of "pods".
func (c *cluster) amounts(list corev1.ResourceList) []amount {
	out := make([]amount, 0, len(list)+1)
	out = append(out, amount{podsColumn, 1})
	for name, quantity := range list {
		value := quantity.Value()
		if name == corev1.ResourceCPU {
			value = quantity.MilliValue()
		}
		if value > 0 {
			out = append(out, amount{c.column(name), value})
		}
	}
	slices.SortFunc(out, func(a, b amount) int { return a.column - b.column })
	return out
}

// key names the pod's class: equal for pods whose specs the rules cannot tell apart. It is worked out when first asked for.
func (p *podInfo) key() string {
	if p.classKey != "" {
		return p.classKey
	}
	spec := &p.pod.Spec
	relevant := corev1.PodSpec{
		NodeName: spec.NodeName, NodeSelector: spec.NodeSelector, Affinity: spec.Affinity, Tolerations: spec.Tolerations,
		TopologySpreadConstraints: spec.TopologySpreadConstraints, ResourceClaims: spec.ResourceClaims,
	}
	for _, v := range spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil || v.CSI != nil {
			relevant.Volumes = append(relevant.Volumes, v)
		}
	}
	key, err := relevant.Marshal()
	if err != nil { // A spec that was decoded encodes; a class of its own is right in any case.
		key = []byte(p.pod.UID)
	}
	for _, a := range p.requests {
		key = binary.AppendUvarint(binary.AppendUvarint(key, uint64(a.column)), uint64(a.value))
	}
	key = binary.AppendVarint(binary.AppendVarint(key, p.scoredCPU), p.scoredMem)
	for _, port := range p.ports {
		key = append(key, port.String()...)
	}
	for _, container := range spec.Containers {
		key = append(append(key, 0), container.Image...)
	}
	if lookAtOtherPods(spec) {
		key = append(append(key, 0), p.pod.Namespace...)
		for _, name := range slices.Sorted(maps.Keys(p.pod.Labels)) {
			key = append(append(append(append(key, 0), name...), '='), p.pod.Labels[name]...)
		}
	}
	p.classKey = string(key)
	return p.classKey
}

// lookAtOtherPods tells whether the pod's own labels and namespace decide where it may go.
func lookAtOtherPods(spec *corev1.PodSpec) bool {
	return len(spec.TopologySpreadConstraints) > 0 || spec.Affinity != nil && (spec.Affinity.PodAffinity != nil || spec.Affinity.PodAntiAffinity != nil)
}

func (p *podInfo) fullName() string { return p.pod.Namespace + "/" + p.pod.Name }

// gated tells whether scheduling gates hold the pod back.
func (p *podInfo) gated() bool { return len(p.pod.Spec.SchedulingGates) > 0 }

// podChange tells what about a pod that has a node matters to others.
func podChange(before, after *corev1.Pod) event {
	var what event
	if !equality.Semantic.DeepEqual(before.Labels, after.Labels) {
		what |= podAdded
	}
	if !equality.Semantic.DeepEqual(before.Spec.Containers, after.Spec.Containers) || !equality.Semantic.DeepEqual(before.Status.ContainerStatuses, after.Status.ContainerStatuses) {
		what |= podRemoved
	}
	return what
}

// finished tells whether a pod no longer uses its node.
func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func sameSchedulingSpec(a, b *corev1.Pod) bool {
	return strings.Join(gates(a), ",") == strings.Join(gates(b), ",") &&
		equality.Semantic.DeepEqual(a.Labels, b.Labels) && equality.Semantic.DeepEqual(a.Spec, b.Spec) && a.DeletionTimestamp.Equal(b.DeletionTimestamp)
}

func gates(p *corev1.Pod) []string {
	var out []string
	for _, g := range p.Spec.SchedulingGates {
		out = append(out, g.Name)
	}
	return out
}
