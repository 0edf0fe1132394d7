package scheduler

import (
	"math"

	"k8s.io/apimachinery/pkg/labels"
)

// podAffinity follows spec.affinity.podAffinity and podAntiAffinity, those of the pods that are there too.
type podAffinity struct{}

var (
	noAffinity       = &refusal{reasons: []string{"node(s) didn't match pod affinity rules"}, unresolvable: true}
	antiAffinity     = &refusal{reasons: []string{"node(s) didn't match pod anti-affinity rules"}}
	othersDontWantIt = &refusal{reasons: []string{"node(s) didn't satisfy existing pods anti-affinity rules"}}
)

func (podAffinity) name() string { return "InterPodAffinity" }

func (podAffinity) compile(p *podInfo, c *cluster) *rule {
	a := &affinities{cluster: c}
	a.countOwn(p)
	for _, t := range p.about {
		if t.kind == requiredAntiAffinity {
			a.existing = append(a.existing, t.carriers)
			continue
		}
		a.scored = append(a.scored, weightedTally{t.carriers, t.weight})
	}
	if len(a.affinity)+len(a.anti)+len(a.existing)+len(a.scored) == 0 {
		return nil
	}
	r := &rule{
		weight: 2, acrossNodes: true, coordinates: a.coordinates, release: a.release,
		wait: nodeAdded | nodeLabels | podAdded | podRemoved,
	}
	if len(a.affinity)+len(a.anti)+len(a.existing) > 0 {
		r.filter = a.filter
	}
	if len(a.scored) > 0 {
		r.score, r.normalize = a.score, normalizeBetween
	}
	return r
}

// affinities is the rule compiled for a class.
type affinities struct {
	cluster  *cluster
	affinity []*tally // by key of the required affinity: pods that match all its terms
	first    bool     // the pod matches them itself, so that it may be the first
	anti     []*tally // by term of the required anti-affinity: pods that match it
	existing []*tally // pods that are there and want none like this one
	scored   []weightedTally
	own      []*tally
}

// weightedTally is a count with what each pod of it adds to a score.
type weightedTally struct {
	tally  *tally
	weight int64
}

// countOwn begins the counts for the pod's own terms.
func (a *affinities) countOwn(p *podInfo) {
	var required []podTerm
	for _, t := range podTerms(p.pod) {
		switch t.kind {
		case requiredAffinity:
			required = append(required, t)
		case requiredAntiAffinity:
			a.anti = append(a.anti, a.tally(t.topologyKey, t))
		default:
			a.scored = append(a.scored, weightedTally{a.tally(t.topologyKey, t), t.weight})
		}
	}
	a.first = len(required) > 0
	for i := range required {
		a.affinity = append(a.affinity, a.tally(required[i].topologyKey, required...))
		// Through the namespaces that are there now, as for the pods that are there.
		names := required[i].resolved(a.cluster)
		a.first = a.first && speaksOf(names, p.pod.Namespace) && required[i].selector.Matches(labels.Set(p.pod.Labels))
	}
}

func speaksOf(namespaces []string, namespace string) bool {
	if namespaces == nil {
		return true
	}
	for _, n := range namespaces {
		if n == namespace {
			return true
		}
	}
	return false
}

// tally counts the pods that all the terms speak of.
func (a *affinities) tally(key string, terms ...podTerm) *tally {
	resolved := make([][]string, len(terms))
	for i := range terms {
		resolved[i] = terms[i].resolved(a.cluster)
	}
	t := a.cluster.newTally(&tally{
		namespaces: resolved[0],
		matches: func(p *podInfo) bool {
			for i := range terms {
				if !speaksOf(resolved[i], p.pod.Namespace) || !terms[i].selector.Matches(labels.Set(p.pod.Labels)) {
					return false
				}
			}
			return true
		},
	}, key)
	a.own = append(a.own, t)
	return t
}

func (a *affinities) release() {
	for _, t := range a.own {
		a.cluster.dropTally(t)
	}
}

func (a *affinities) coordinates(slot int, out []int64) []int64 {
	for _, list := range [3][]*tally{a.affinity, a.anti, a.existing} {
		for _, t := range list {
			out = append(out, t.coordinate(slot))
		}
	}
	for _, w := range a.scored {
		out = append(out, w.tally.coordinate(slot))
	}
	return out
}

func (a *affinities) filter(slot int) *refusal {
	if !a.near(slot) {
		return noAffinity
	}
	for _, t := range a.anti {
		if count, _ := t.in(slot); count > 0 {
			return antiAffinity
		}
	}
	for _, t := range a.existing {
		if count, _ := t.in(slot); count > 0 {
			return othersDontWantIt
		}
	}
	return nil
}

// near tells whether the pods that this one must be near are there. If there are none anywhere, a pod that is such a one itself
// may begin.
func (a *affinities) near(slot int) bool {
	all := true
	var anywhere int64
	for _, t := range a.affinity {
		count, ok := t.in(slot)
		if !ok {
			return false
		}
		all = all && count > 0
		anywhere += t.total
	}
	return all || anywhere == 0 && a.first
}

func (a *affinities) score(slot int) int64 {
	var sum int64
	for _, w := range a.scored {
		count, _ := w.tally.in(slot)
		sum += count * w.weight
	}
	return sum
}

// normalizeBetween puts the smallest at 0 and the largest at 100.
func normalizeBetween(raw []int64) {
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for _, r := range raw {
		least, most = min(least, r), max(most, r)
	}
	for i, r := range raw {
		raw[i] = 0
		if most > least {
			raw[i] = int64(float64(maxScore) * (float64(r-least) / float64(most-least)))
		}
	}
}
