package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
)

// spread follows spec.topologySpreadConstraints, and spreads the pods of Services and controllers that say nothing.
type spread struct{}

var (
	tooSkewed     = &refusal{reasons: []string{"node(s) didn't match pod topology spread constraints"}}
	outOfTopology = &refusal{reasons: []string{"node(s) didn't match pod topology spread constraints (missing required label)"}, unresolvable: true}
)

// systemSpread is what holds for pods without constraints of their own.
var systemSpread = []corev1.TopologySpreadConstraint{
	{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 3},
	{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 5},
}

func (spread) name() string { return "PodTopologySpread" }

func (spread) compile(p *podInfo, c *cluster) *rule {
	s := &spreading{cluster: c, pod: p.pod, required: nodeaffinity.GetRequiredNodeAffinity(p.pod)}
	own := p.pod.Spec.TopologySpreadConstraints
	for i := range own {
		one := s.newConstraint(&own[i])
		if own[i].WhenUnsatisfiable == corev1.DoNotSchedule {
			s.hard = append(s.hard, one)
		} else {
			s.soft = append(s.soft, one)
		}
	}
	s.complete = len(own) > 0
	if len(own) == 0 && p.defaultSpread != nil {
		for i := range systemSpread {
			one := s.newConstraint(&systemSpread[i])
			one.selector = p.defaultSpread
			s.soft = append(s.soft, one)
		}
	}
	if len(s.hard) == 0 && len(s.soft) == 0 {
		return nil
	}
	s.count(s.hard, true)
	s.count(s.soft, s.complete)
	r := &rule{
		weight: 2, acrossNodes: true, coordinates: s.coordinates, release: s.release,
		wait: nodeAdded | nodeRemoved | nodeLabels | nodeTaints | podAdded | podRemoved | podLeaving,
	}
	if len(s.hard) > 0 {
		r.filter = s.filter
	}
	if len(s.soft) > 0 {
		r.begin, r.score, r.normalize = s.begin, s.score, s.normalize
	}
	return r
}

// spreadConstraint is one constraint with its counts.
type spreadConstraint struct {
	key           string
	maxSkew       int64
	minDomains    int64
	self          int64 // 1 if the pod itself is one of those that are spread
	selector      labels.Selector
	honorAffinity bool
	honorTaints   bool
	tally         *tally
	factor        float64 // of a soft one: what the counts weigh
}

// spreading is the rule compiled for a class.
type spreading struct {
	cluster    *cluster
	pod        *corev1.Pod
	required   nodeaffinity.RequiredNodeAffinity
	hard, soft []*spreadConstraint
	// complete is set if a node must have all the labels to be scored.
	complete bool
}

func (s *spreading) newConstraint(api *corev1.TopologySpreadConstraint) *spreadConstraint {
	one := &spreadConstraint{
		key: api.TopologyKey, maxSkew: int64(api.MaxSkew), minDomains: 1, honorAffinity: true, selector: parsedSelector(api.LabelSelector),
	}
	if api.MinDomains != nil {
		one.minDomains = int64(*api.MinDomains)
	}
	if api.NodeAffinityPolicy != nil {
		one.honorAffinity = *api.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
	}
	if api.NodeTaintsPolicy != nil {
		one.honorTaints = *api.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
	}
	matched := labels.Set{}
	for _, key := range api.MatchLabelKeys {
		if value, ok := s.pod.Labels[key]; ok {
			matched[key] = value
		}
	}
	if requirements, ok := one.selector.Requirements(); ok && len(matched) > 0 {
		one.selector = matched.AsSelectorPreValidated().Add(requirements...)
	}
	if one.selector.Matches(labels.Set(s.pod.Labels)) {
		one.self = 1
	}
	return one
}

// count begins the counts of constraints that are looked at together.
func (s *spreading) count(all []*spreadConstraint, complete bool) {
	for _, one := range all {
		t := &tally{namespaces: []string{s.pod.Namespace}}
		selector := one.selector
		t.matches = func(p *podInfo) bool {
			return p.pod.DeletionTimestamp == nil && !selector.Empty() && selector.Matches(labels.Set(p.pod.Labels))
		}
		t.eligible = func(slot int) bool {
			n := s.cluster.nodes[slot].api
			return (!complete || hasAll(n, all)) && s.includes(one, n)
		}
		one.tally = s.cluster.newTally(t, one.key)
	}
}

func hasAll(n *corev1.Node, all []*spreadConstraint) bool {
	for _, one := range all {
		if _, ok := n.Labels[one.key]; !ok {
			return false
		}
	}
	return true
}

// includes tells whether the constraint's policies let a node take part.
func (s *spreading) includes(one *spreadConstraint, n *corev1.Node) bool {
	if one.honorAffinity {
		if ok, err := s.required.Match(n); !ok || err != nil {
			return false
		}
	}
	if one.honorTaints {
		if _, found := schedulinghelpers.FindMatchingUntoleratedTaint(klog.Background(), n.Spec.Taints, s.pod.Spec.Tolerations, hardTaint, false); found {
			return false
		}
	}
	return true
}

func (s *spreading) release() {
	for _, one := range s.hard {
		s.cluster.dropTally(one.tally)
	}
	for _, one := range s.soft {
		s.cluster.dropTally(one.tally)
	}
}

func (s *spreading) coordinates(slot int, out []int64) []int64 {
	for _, one := range s.hard {
		out = append(out, one.tally.coordinate(slot))
	}
	for _, one := range s.soft {
		out = append(out, one.tally.coordinate(slot))
		if one.key == corev1.LabelHostname {
			out = append(out, one.tally.bySlot[slot])
		}
	}
	return out
}

func (s *spreading) filter(slot int) *refusal {
	for _, one := range s.hard {
		count, ok := one.tally.in(slot)
		if !ok {
			return outOfTopology
		}
		least := one.tally.least()
		if int64(one.tally.present) < one.minDomains {
			least = 0
		}
		if count+one.self-least > one.maxSkew {
			return tooSkewed
		}
	}
	return nil
}

// notScored is the raw score of a node that lacks a label.
const notScored = -1

// begin weighs each soft constraint by the number of its domains, so that one with few isn't drowned by one with many.
func (s *spreading) begin(feasible []*cell) {
	for _, one := range s.soft {
		seen := map[int32]bool{}
		size := 0
		for _, cell := range feasible {
			slot := cell.first()
			if s.ignored(slot) {
				continue
			}
			id := one.tally.topology.of[slot]
			switch {
			case one.key == corev1.LabelHostname || id != noDomain && one.tally.alone(slot):
				size += len(cell.heap)
			case !seen[id]:
				seen[id] = true
				size++
			}
		}
		one.factor = math.Log(float64(size + 2))
	}
}

func (s *spreading) ignored(slot int) bool {
	if !s.complete {
		return false
	}
	for _, one := range s.soft {
		if one.tally.topology.of[slot] == noDomain {
			return true
		}
	}
	return false
}

func (s *spreading) score(slot int) int64 {
	if s.ignored(slot) {
		return notScored
	}
	var sum float64
	for _, one := range s.soft {
		count, ok := one.tally.in(slot)
		if !ok {
			continue
		}
		if one.key == corev1.LabelHostname {
			count = one.tally.bySlot[slot]
		}
		sum += float64(count)*one.factor + float64(one.maxSkew-1)
	}
	return int64(math.Round(sum))
}

// normalize gives the least crowded the highest score.
func (s *spreading) normalize(raw []int64) {
	least, most := int64(math.MaxInt64), int64(0)
	for _, r := range raw {
		if r != notScored {
			least, most = min(least, r), max(most, r)
		}
	}
	for i, r := range raw {
		switch {
		case r == notScored:
			raw[i] = 0
		case most == 0:
			raw[i] = maxScore
		default:
			raw[i] = maxScore * (most + least - r) / most
		}
	}
}
