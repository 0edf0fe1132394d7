package scheduler

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
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
	specKey   string         // what of the spec the rules look at
	classKey  string         // specKey and how it relates to other pods, as of relatedAt
	terms     []*carriedTerm // its affinity terms, as other pods meet them
	relatedAt uint64
	about     []*carriedTerm // terms of other pods that speak of this one
	// defaultSpread selects the pods that it is spread among if it says nothing itself; nil is none.
	defaultSpread labels.Selector
	reserved      bool // it stands for a pod that waits for the room or for its volumes
	// evictedAt is when it was chosen to make room.
	evictedAt time.Time
	held      bool // its claims are not there yet
	// unassume takes back what was assumed of the pod's volumes or devices; nil if there is nothing.
	unassume func()

	// in the queue
	queuedAt  time.Time
	attempts  int
	flushed   bool     // it is tried again because it has waited too long, not for an event
	refusedBy event    // what the rules that refused it wait for
	blamed    []string // the plugins that keep it from being scheduled
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
	p.terms = c.carry(pod)
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

// key names the pod's class: equal for pods that the rules cannot tell apart.
func (p *podInfo) key(c *cluster) string {
	if p.relatedAt == c.relations {
		return p.classKey
	}
	p.relatedAt = c.relations
	p.about = c.carriedAbout(p.pod)
	if p.specKey == "" {
		p.specKey = p.makeSpecKey()
	}
	key := []byte(p.specKey)
	for _, t := range p.about {
		key = binary.AppendUvarint(append(key, 0, 'a'), t.id)
	}
	p.defaultSpread = nil
	if len(p.pod.Spec.TopologySpreadConstraints) == 0 {
		if selector := c.workloads.selectorFor(p.pod); !selector.Empty() {
			p.defaultSpread = selector
			key = append(append(append(append(key, 0, 's'), p.pod.Namespace...), 0), selector.String()...)
		}
	}
	p.classKey = string(key)
	return p.classKey
}

// forgetKey lets go of what only a pod without a node needs. It is worked out again if asked for.
func (p *podInfo) forgetKey() {
	p.specKey, p.classKey, p.about, p.defaultSpread, p.relatedAt = "", "", nil, nil, 0
}

func (p *podInfo) makeSpecKey() string {
	spec := &p.pod.Spec
	relevant := corev1.PodSpec{
		NodeName: spec.NodeName, NodeSelector: spec.NodeSelector, Affinity: spec.Affinity, Tolerations: spec.Tolerations,
		TopologySpreadConstraints: spec.TopologySpreadConstraints, ResourceClaims: spec.ResourceClaims,
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
	return string(key)
}

// lookAtOtherPods tells whether the pod's own labels and namespace decide where it may go.
func lookAtOtherPods(spec *corev1.PodSpec) bool {
	return len(spec.TopologySpreadConstraints) > 0 || spec.Affinity != nil && (spec.Affinity.PodAffinity != nil || spec.Affinity.PodAntiAffinity != nil)
}

func (p *podInfo) fullName() string { return p.pod.Namespace + "/" + p.pod.Name }

// gated tells whether scheduling gates, or claims that are not there, hold the pod back.
func (p *podInfo) gated() bool { return p.held || len(p.pod.Spec.SchedulingGates) > 0 }

// gate names the plugin that holds a gated pod back.
func (p *podInfo) gate() string {
	if len(p.pod.Spec.SchedulingGates) > 0 {
		return "SchedulingGates"
	}
	return "DynamicResources"
}

// placedChange tells what about a pod that has a node matters to others.
func placedChange(before, after *podInfo) event {
	var what event
	if !labels.Equals(before.pod.Labels, after.pod.Labels) {
		what |= podAdded | podRemoved
	}
	if !slices.Equal(before.requests, after.requests) {
		what |= podRemoved
	}
	if (before.pod.DeletionTimestamp == nil) != (after.pod.DeletionTimestamp == nil) {
		what |= podLeaving // It no longer counts where pods are spread.
	}
	return what
}

// finished tells whether a pod no longer uses its node.
func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func sameSchedulingSpec(a, b *corev1.Pod) bool {
	return strings.Join(gates(a), ",") == strings.Join(gates(b), ",") &&
		equality.Semantic.DeepEqual(a.Labels, b.Labels) && equality.Semantic.DeepEqual(a.Spec, b.Spec) && a.DeletionTimestamp.Equal(b.DeletionTimestamp) &&
		equality.Semantic.DeepEqual(a.Status.ResourceClaimStatuses, b.Status.ResourceClaimStatuses)
}

func gates(p *corev1.Pod) []string {
	var out []string
	for _, g := range p.Spec.SchedulingGates {
		out = append(out, g.Name)
	}
	return out
}
