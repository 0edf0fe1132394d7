package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// preempt looks for a node where a pod fits once some of lower priority are gone. It returns that node and the victims, or in
// upstream's words why there is none.
func (s *core) preempt(p *podInfo, k *class) (node string, victims []*podInfo, outcome string) {
	if p.pod.Spec.PreemptionPolicy != nil && *p.pod.Spec.PreemptionPolicy == corev1.PreemptNever {
		return "", nil, "preemption: not eligible due to preemptionPolicy=Never."
	}
	var candidates []candidate
	counts := map[string]int{}
	for slot, n := range s.cluster.nodes {
		if n == nil {
			continue
		}
		if no := k.verdict(slot); no != nil && no.unresolvable {
			counts["Preemption is not helpful for scheduling"]++
			continue
		}
		found, why := s.victimsOn(p, k, n)
		if why != "" {
			counts[why]++
			continue
		}
		candidates = append(candidates, candidate{n, found})
	}
	if len(candidates) == 0 {
		return "", nil, noPreemption(s.cluster.count, counts)
	}
	best := slices.MinFunc(candidates, candidate.compare)
	return best.node.api.Name, best.victims, ""
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

// victimsOn returns the least important pods that must leave a node so that p fits. The cluster is as before when it returns.
func (s *core) victimsOn(p *podInfo, k *class, n *node) (victims []*podInfo, why string) {
	var lower []*podInfo
	for _, other := range n.pods {
		if other.priority < p.priority {
			lower = append(lower, other)
		}
	}
	if len(lower) == 0 {
		return nil, "No preemption victims found for incoming pod"
	}
	slices.SortFunc(lower, moreImportant)
	remove := func(o *podInfo) { s.cluster.account(n, o, -1) }
	restore := func(o *podInfo) { s.cluster.account(n, o, 1) }
	for _, o := range lower {
		remove(o)
	}
	fits := func() bool {
		return k.filter(s.cluster, n.slot) == nil && k.refuseAcross(n.slot) == nil
	}
	if no := k.filter(s.cluster, n.slot); no != nil || !fits() {
		for _, o := range lower {
			restore(o)
		}
		if no == nil {
			return nil, "No preemption victims found for incoming pod"
		}
		return nil, strings.Join(no.reasons, ", ")
	}
	// The most important come back first, as long as there is room.
	for _, o := range lower {
		restore(o)
		if !fits() {
			remove(o)
			victims = append(victims, o)
		}
	}
	for _, v := range victims {
		restore(v)
	}
	return victims, ""
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
	node    *node
	victims []*podInfo // most important first
}

// compare prefers, in this order: the lowest of the highest victims' priorities, the smallest sum of priorities, the fewest
// victims, the node whose most important victims started last.
func (c candidate) compare(o candidate) int {
	const shift = 1 << 31 // Priorities can be negative; many small ones must not cancel out.
	sum := func(all []*podInfo) (total int64) {
		for _, v := range all {
			total += int64(v.priority) + shift
		}
		return total
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
