// Package preemption chooses which pods make room on a node for a critical one.
//
//	victims, err := preemption.Choose(pod, running, lacking)
//
// In flow the pod, the pods that hold resources and what the node lacks; out flow the pods to end: of the lowest quality of service, as few as can be,
// and of those the smallest.
package preemption

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// What a pod that has made room says.
const (
	Reason    = "Preempting"
	Message   = "Preempted in order to admit critical pod"
	Disrupted = "Pod was preempted by Kubelet to accommodate a critical pod."
)

const criticalPriority = 2000000000

// Critical tells whether a pod may take the room of others.
func Critical(pod *corev1.Pod) bool {
	return lifecycle.IsStatic(pod) || pod.Spec.Priority != nil && *pod.Spec.Priority >= criticalPriority
}

// preemptable tells whether a pod gives way to another.
func preemptable(preemptor, pod *corev1.Pod) bool {
	if Critical(preemptor) && !Critical(pod) {
		return true
	}
	return preemptor.Spec.Priority != nil && pod.Spec.Priority != nil && *preemptor.Spec.Priority > *pod.Spec.Priority
}

// Lack is how much a node has too little of a resource, in the unit that admission counts it in.
type Lack struct {
	Resource corev1.ResourceName
	Amount   int64
}

type lacks []Lack

func (l lacks) String() string {
	var b strings.Builder
	for _, one := range l {
		fmt.Fprintf(&b, "(res: %v, q: %d), ", one.Resource, one.Amount)
	}
	return "[" + b.String() + "]"
}

// Request is how much a pod asks of a resource: one of the pods that a node takes, thousandths of a CPU, or the amount itself.
func Request(pod *corev1.Pod, name corev1.ResourceName) int64 {
	if name == corev1.ResourcePods {
		return 1
	}
	q := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})[name]
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// without is what is still lacking when pods have gone.
func (l lacks) without(pods ...*corev1.Pod) lacks {
	var out lacks
	for _, one := range l {
		for _, pod := range pods {
			one.Amount -= Request(pod, one.Resource)
		}
		if one.Amount > 0 {
			out = append(out, one)
		}
	}
	return out
}

// distance is how far a pod's going is from giving what is lacking; every resource weighs the same.
func (l lacks) distance(pod *corev1.Pod) float64 {
	total := 0.0
	for _, one := range l {
		if rest := one.Amount - Request(pod, one.Resource); rest > 0 {
			total += math.Pow(float64(rest)/float64(one.Amount), 2)
		}
	}
	return total
}

// Choose returns the pods that have to go for a pod to fit.
func Choose(pod *corev1.Pod, running []*corev1.Pod, lacking []Lack) ([]*corev1.Pod, error) {
	classes := map[corev1.PodQOSClass][]*corev1.Pod{}
	var all []*corev1.Pod
	for _, other := range running {
		if preemptable(pod, other) {
			qos := lifecycle.QOS(other)
			classes[qos], all = append(classes[qos], other), append(all, other)
		}
	}
	need := lacks(lacking)
	if rest := need.without(all...); len(rest) > 0 {
		return nil, none(rest)
	}
	best, burst := classes[corev1.PodQOSBestEffort], classes[corev1.PodQOSBurstable]
	// Of a class only what is needed beyond all of the lower classes; of these then only what is needed beside it.
	guaranteed, err := closest(classes[corev1.PodQOSGuaranteed], need.without(slices.Concat(best, burst)...))
	if err != nil {
		return nil, err
	}
	burstable, err := closest(burst, need.without(slices.Concat(best, guaranteed)...))
	if err != nil {
		return nil, err
	}
	bestEffort, err := closest(best, need.without(slices.Concat(burstable, guaranteed)...))
	if err != nil {
		return nil, err
	}
	return slices.Concat(bestEffort, burstable, guaranteed), nil
}

func none(rest lacks) error {
	return fmt.Errorf("no set of running pods found to reclaim resources: %v", rest)
}

// closest picks pods until nothing is lacking: each time the one that comes closest, and of equals the smaller.
func closest(pods []*corev1.Pod, need lacks) ([]*corev1.Pod, error) {
	pods = slices.Clone(pods)
	var out []*corev1.Pod
	for len(need) > 0 {
		if len(pods) == 0 {
			return nil, none(need)
		}
		at := 0
		for i, pod := range pods {
			mine, best := need.distance(pod), need.distance(pods[at])
			if mine < best || mine == best && smaller(pod, pods[at]) {
				at = i
			}
		}
		need = need.without(pods[at])
		out = append(out, pods[at])
		pods = slices.Delete(pods, at, at+1)
	}
	return out, nil
}

// smaller compares what pods ask for: memory first, then CPU.
func smaller(a, b *corev1.Pod) bool {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceCPU} {
		if x, y := Request(a, name), Request(b, name); x != y {
			return x < y
		}
	}
	return true
}
