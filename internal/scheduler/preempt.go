package scheduler

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// preemption is the outcome of looking for room.
type preemption struct {
	node    string     // where there will be room; "" is nowhere
	victims []*podInfo // who has to leave it
	outcome string     // in upstream's words why not
	keep    bool       // the pod waits for room that was made already
}

// How many nodes are enough to choose from.
const (
	leastCandidates       = 100
	candidatesPercentNode = 10
)

// preempt looks for a node where a pod fits once some of lower priority are gone. nominated is the node that it waited for, if any.
func (s *core) preempt(p *podInfo, k *class, nominated string, now time.Time) preemption {
	if p.pod.Spec.PreemptionPolicy != nil && *p.pod.Spec.PreemptionPolicy == corev1.PreemptNever {
		return preemption{outcome: "preemption: not eligible due to preemptionPolicy=Never."}
	}
	if s.roomIsComing(p, k, nominated, now) {
		return preemption{keep: true, outcome: "preemption: not eligible due to a terminating pod on the nominated node."}
	}
	var candidates []candidate
	harmless := false
	counts := map[string]int{}
	enough := max(leastCandidates, s.cluster.count*candidatesPercentNode/100)
	first := 0
	if n := len(s.cluster.nodes); n > 0 {
		first = rand.IntN(n)
	}
	for i := range s.cluster.nodes {
		n := s.cluster.nodes[(first+i)%len(s.cluster.nodes)]
		if n == nil {
			continue
		}
		if no := k.verdict(n.slot); no != nil && no.unresolvable {
			counts["Preemption is not helpful for scheduling"]++
			continue
		}
		found, why := s.victimsOn(p, k, n)
		if why != "" {
			counts[why]++
			continue
		}
		candidates = append(candidates, found)
		if harmless = harmless || found.violations == 0; harmless && len(candidates) >= enough {
			break
		}
	}
	if len(candidates) == 0 {
		return preemption{outcome: noPreemption(s.cluster.count, counts)}
	}
	best := slices.MinFunc(candidates, candidate.compare)
	for _, v := range best.victims {
		v.evictedAt = now
	}
	return preemption{node: best.node.api.Name, victims: best.victims}
}

// roomIsComing tells whether pods are leaving the node that a preemptor waits for, so that it must not ask for more.
func (s *core) roomIsComing(p *podInfo, k *class, nominated string, now time.Time) bool {
	n := s.cluster.byName[nominated]
	if n == nil {
		return false
	}
	if no := k.verdict(n.slot); no != nil && no.unresolvable {
		return false
	}
	for _, o := range n.pods {
		if o.priority < p.priority && (now.Sub(o.evictedAt) < effectTimeout || preempted(o.pod)) {
			return true
		}
	}
	return false
}

// preempted tells whether a pod is leaving because a scheduler said so.
func preempted(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
	})
}

func noPreemption(nodes int, counts map[string]int) string {
	if nodes == 0 {
		return ""
	}
	var parts []string
	for why, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, why))
	}
	slices.Sort(parts)
	return fmt.Sprintf("preemption: 0/%d nodes are available: %s.", nodes, strings.Join(parts, ", "))
}

// victimsOn returns the least important pods that must leave a node so that p fits, disruption budgets kept where that can be.
// The cluster is as before when it returns.
func (s *core) victimsOn(p *podInfo, k *class, n *node) (found candidate, why string) {
	var lower []*podInfo
	for _, other := range n.pods {
		if other.priority < p.priority && !other.reserved {
			lower = append(lower, other)
		}
	}
	if len(lower) == 0 {
		return candidate{}, "No preemption victims found for incoming pod"
	}
	slices.SortFunc(lower, moreImportant)
	for _, o := range lower {
		s.cluster.account(n, o, -1)
	}
	defer func() {
		for _, o := range found.victims {
			s.cluster.account(n, o, 1)
		}
	}()
	if no := k.refusal(s.cluster, n.slot); no != nil {
		found.victims = lower // All come back.
		return found, strings.Join(no.reasons, ", ")
	}
	found.node = n
	violating, others := s.splitByBudget(lower)
	found.violations = s.reprieve(&found, k, violating)
	s.reprieve(&found, k, others)
	slices.SortFunc(found.victims, moreImportant)
	return found, ""
}

// reprieve lets those come back, the most important first, for whom there is room still. The others are victims: it returns how many.
func (s *core) reprieve(c *candidate, k *class, all []*podInfo) (victims int) {
	for _, o := range all {
		s.cluster.account(c.node, o, 1)
		if k.refusal(s.cluster, c.node.slot) != nil {
			s.cluster.account(c.node, o, -1)
			c.victims = append(c.victims, o)
			victims++
		}
	}
	return victims
}

// splitByBudget tells the pods whose eviction a disruption budget forbids from the others, if they go in this order.
func (s *core) splitByBudget(all []*podInfo) (violating, others []*podInfo) {
	left := map[*policyv1.PodDisruptionBudget]int32{}
	for _, p := range all {
		forbidden := false
		for _, b := range s.budgets {
			if b.Namespace != p.pod.Namespace || len(p.pod.Labels) == 0 {
				continue
			}
			selector := parsedSelector(b.Spec.Selector)
			if selector.Empty() || !selector.Matches(labels.Set(p.pod.Labels)) {
				continue
			}
			if _, counted := b.Status.DisruptedPods[p.pod.Name]; counted {
				continue
			}
			if _, seen := left[b]; !seen {
				left[b] = b.Status.DisruptionsAllowed
			}
			left[b]--
			forbidden = forbidden || left[b] < 0
		}
		if forbidden {
			violating = append(violating, p)
		} else {
			others = append(others, p)
		}
	}
	return violating, others
}

// moreImportant orders by priority, then by age: the older one is more important.
func moreImportant(a, b *podInfo) int {
	if c := cmp.Compare(b.priority, a.priority); c != 0 {
		return c
	}
	return started(a).Time.Compare(started(b).Time)
}

func started(p *podInfo) *metav1.Time {
	if p.pod.Status.StartTime != nil {
		return p.pod.Status.StartTime
	}
	return &p.pod.CreationTimestamp
}

// candidate is a node and who would have to leave it.
type candidate struct {
	node       *node
	victims    []*podInfo // most important first
	violations int        // of disruption budgets
}

// compare prefers, in this order: the fewest broken budgets, the lowest of the highest victims' priorities, the smallest sum of priorities, the fewest
// victims, the node whose most important victims started last.
func (c candidate) compare(o candidate) int {
	const shift = 1 << 31 // Priorities can be negative; many small ones must not cancel out.
	sum := func(all []*podInfo) (total int64) {
		for _, v := range all {
			total += int64(v.priority) + shift
		}
		return total
	}
	if d := cmp.Compare(c.violations, o.violations); d != 0 {
		return d
	}
	if len(c.victims) == 0 || len(o.victims) == 0 {
		return cmp.Compare(len(c.victims), len(o.victims))
	}
	if d := cmp.Compare(c.victims[0].priority, o.victims[0].priority); d != 0 {
		return d
	}
	if d := cmp.Compare(sum(c.victims), sum(o.victims)); d != 0 {
		return d
	}
	if d := cmp.Compare(len(c.victims), len(o.victims)); d != 0 {
		return d
	}
	return earliestStart(o.victims).Time.Compare(earliestStart(c.victims).Time)
}

// earliestStart is the start of the oldest among the most important victims.
func earliestStart(victims []*podInfo) *metav1.Time {
	first := started(victims[0])
	for _, v := range victims[1:] {
		if v.priority == victims[0].priority && started(v).Before(first) {
			first = started(v)
		}
	}
	return first
}
