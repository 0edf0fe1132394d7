package statefulset

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"clipper.dev/clipper/internal/controller/podcontrol"
)

// state is what a decision is made from. Read-only.
type state struct {
	set             *appsv1.StatefulSet
	pods            []*corev1.Pod // the set's own
	current, update string        // names of the revisions rolled from and to
	now             time.Time
}

// plan is what to do.
type plan struct {
	create []birth
	fix    []*corev1.Pod // their labels are not those of their number
	delete []*corev1.Pod
	// replicas are the numbers whose claims must be there; condemned are pods whose number is beyond the set's size.
	replicas, condemned []*corev1.Pod
	again               time.Duration
}

// birth is a pod to make.
type birth struct {
	ordinal  int
	revision string
}

type planner struct {
	state
	plan
	ordered bool
	slots   []*corev1.Pod // by number from the first; nil where there's no pod
}

// makePlan decides the next step.
func makePlan(s state) plan {
	p := &planner{state: s, ordered: s.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement}
	p.sort()
	if s.set.DeletionTimestamp != nil {
		return p.plan
	}
	if done := p.fill(); done && p.shrink() {
		p.roll()
	}
	p.untilAvailable()
	return p.plan
}

// sort tells the pods within the set's size from the others.
func (p *planner) sort() {
	first := firstOrdinal(p.set)
	p.slots = make([]*corev1.Pod, int(*p.set.Spec.Replicas))
	for _, pod := range p.pods {
		n := ordinal(p.set, pod)
		switch {
		case n < 0: // not of this set's making; it's left alone
		case n >= first && n < first+len(p.slots):
			p.slots[n-first] = pod
			p.replicas = append(p.replicas, pod)
		default:
			p.condemned = append(p.condemned, pod)
		}
	}
	slices.SortFunc(p.replicas, byOrdinal(p.set))
	slices.SortFunc(p.condemned, func(a, b *corev1.Pod) int { return byOrdinal(p.set)(b, a) })
}

// fill creates what's missing and replaces what has ended, in order. It reports whether the next step may be taken.
func (p *planner) fill() bool {
	first := firstOrdinal(p.set)
	for i, pod := range p.slots {
		switch {
		case pod == nil:
			p.create = append(p.create, birth{first + i, p.revisionFor(first + i)})
			if p.ordered {
				return false
			}
			continue
		case podcontrol.Terminal(pod):
			if pod.DeletionTimestamp == nil {
				p.delete = append(p.delete, pod)
			}
			if p.ordered {
				return false
			}
			continue
		case !identified(p.set, pod):
			p.fix = append(p.fix, pod)
		}
		if p.ordered && (pod.DeletionTimestamp != nil || !p.available(pod)) {
			return false
		}
	}
	return true
}

// revisionFor is the revision that a new pod of a number is made from: the former one, if the update hasn't come to it.
func (p *planner) revisionFor(n int) string {
	strategy := p.set.Spec.UpdateStrategy
	if strategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return p.update
	}
	first := firstOrdinal(p.set)
	kept := int(p.set.Status.CurrentReplicas)
	if strategy.RollingUpdate != nil && strategy.RollingUpdate.Partition != nil {
		kept = int(*strategy.RollingUpdate.Partition)
	}
	if n < first+kept {
		return p.current
	}
	return p.update
}

// shrink removes the pods beyond the set's size, the highest number first. It reports whether the next step may be taken.
func (p *planner) shrink() bool {
	if p.ordered && len(p.condemned) > 0 {
		pod := p.condemned[0]
		unhealthy := p.firstUnhealthy()
		switch {
		case pod.DeletionTimestamp != nil:
		case !p.available(pod) && unhealthy != pod:
			// Another pod is in a worse state, and this one must not go while it is being replaced.
		default:
			p.delete = append(p.delete, pod)
		}
		return false
	}
	for _, pod := range p.condemned {
		if pod.DeletionTimestamp == nil {
			p.delete = append(p.delete, pod)
		}
	}
	return true
}

// firstUnhealthy returns the pod of the lowest number that isn't ready.
func (p *planner) firstUnhealthy() *corev1.Pod {
	for _, pod := range p.replicas {
		if pod.DeletionTimestamp != nil || !p.available(pod) {
			return pod
		}
	}
	for _, pod := range slices.Backward(p.condemned) {
		if pod.DeletionTimestamp != nil || !p.available(pod) {
			return pod
		}
	}
	return nil
}

// roll deletes pods of former revisions, the highest number first, as long as no more are unavailable than may be.
func (p *planner) roll() {
	strategy := p.set.Spec.UpdateStrategy
	if strategy.Type == appsv1.OnDeleteStatefulSetStrategyType || len(p.create)+len(p.delete) > 0 {
		return
	}
	partition, budget := 0, 1
	if r := strategy.RollingUpdate; r != nil {
		if r.Partition != nil {
			partition = int(*r.Partition)
		}
		if r.MaxUnavailable != nil {
			n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, len(p.slots), true)
			if err == nil {
				budget = max(n, 1)
			}
		}
	}
	for _, pod := range p.replicas {
		if pod.DeletionTimestamp != nil || !p.available(pod) {
			budget--
		}
	}
	for i, pod := range slices.Backward(p.slots) {
		if budget <= 0 || i < partition {
			return
		}
		if pod != nil && pod.DeletionTimestamp == nil && revisionOf(pod) != p.update {
			p.delete = append(p.delete, pod)
			budget--
		}
	}
}

func (p *planner) available(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && podcontrol.Available(pod, p.set.Spec.MinReadySeconds, p.now)
}

// untilAvailable asks for another look when the next pod has been ready for long enough.
func (p *planner) untilAvailable() {
	for _, pod := range p.replicas {
		if wait := podcontrol.AvailableAfter(pod, p.set.Spec.MinReadySeconds, p.now); wait != nil && *wait > 0 && (p.again == 0 || *wait < p.again) {
			p.again = *wait
		}
	}
}

// makeStatus counts the pods. current is the revision rolled from, which becomes the new one when the update is through.
func makeStatus(s state, collisions *int32) appsv1.StatefulSetStatus {
	out := appsv1.StatefulSetStatus{ObservedGeneration: s.set.Generation, CurrentRevision: s.current, UpdateRevision: s.update, CollisionCount: collisions,
		Conditions: s.set.Status.Conditions}
	for _, pod := range s.pods {
		if ordinal(s.set, pod) < 0 {
			continue
		}
		if pod.Status.Phase != "" {
			out.Replicas++
		}
		if pod.Status.Phase == corev1.PodRunning && podcontrol.Ready(pod) {
			out.ReadyReplicas++
			if podcontrol.Available(pod, s.set.Spec.MinReadySeconds, s.now) {
				out.AvailableReplicas++
			}
		}
		if pod.DeletionTimestamp != nil || pod.Status.Phase == "" {
			continue
		}
		if revisionOf(pod) == s.current {
			out.CurrentReplicas++
		}
		if revisionOf(pod) == s.update {
			out.UpdatedReplicas++
		}
	}
	if s.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType &&
		out.UpdatedReplicas == *s.set.Spec.Replicas && out.UpdatedReplicas == out.Replicas && out.ReadyReplicas == out.Replicas {
		out.CurrentReplicas, out.CurrentRevision = out.UpdatedReplicas, out.UpdateRevision
	}
	return out
}
