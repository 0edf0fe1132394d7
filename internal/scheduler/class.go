package scheduler

import (
	"math/rand/v2"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// class is what is known about all pods with one key: the verdict on each node, and the feasible nodes ranked.
type class struct {
	rules  []*rule
	across []*rule // those of rules that look across nodes: asked at each decision
	kept   []*rule // the others: their verdicts are kept
	scored []*rule // those of kept that score

	refusals []*refusal // by slot; nil is feasible as far as the kept rules go
	raw      [][]int64  // by scored rule, then slot
	largest  []int64    // by scored rule, over the feasible nodes
	rank     ranking
	rejected *refusal // why no node whatever will do
	names    map[string]bool
	unnamed  *refusal // why nodes that are not among names won't do
	claims   *claimedDevices
	position uint64 // in the cluster's change log
	usedAt   uint64 // the decision that used it last, for eviction

	evaluations []prometheus.Counter // one for each thing that the rules do with a pod

	// Room to work in, used again by each decision.
	feasible       []*cell
	totals         []int64
	scratch, place []int64
}

// newClass compiles the plugins for pods like this one. The class has not looked at any node yet.
func newClass(all []plugin, p *podInfo, c *cluster) *class {
	k := &class{}
	for _, pl := range all {
		r := pl.compile(p, c)
		if r == nil {
			continue
		}
		r.plugin = pl.name()
		k.rules = append(k.rules, r)
		if r.claims != nil {
			k.claims = r.claims
		}
		if r.reject != "" && k.rejected == nil {
			k.rejected = &refusal{plugin: r.plugin, reasons: []string{r.reject}, unresolvable: true}
		}
		if r.names != nil {
			k.names, k.unnamed = r.names, &refusal{plugin: r.plugin, reasons: []string{"node(s) didn't satisfy plugin(s) [" + r.plugin + "]"}, unresolvable: true}
		}
		if r.acrossNodes {
			k.across = append(k.across, r)
			continue
		}
		k.kept = append(k.kept, r)
		if r.score != nil {
			k.scored = append(k.scored, r)
		}
	}
	k.raw = make([][]int64, len(k.scored))
	k.largest = make([]int64, len(k.scored))
	return k
}

// release ends what the rules keep for the class.
func (k *class) release() {
	for _, r := range k.rules {
		if r.release != nil {
			r.release()
		}
	}
}

// refresh brings the class up to date with the nodes that changed since its last decision.
func (k *class) refresh(c *cluster) {
	changed, ok := c.changes.since(k.position)
	fresh := k.position == 0
	k.position = c.changes.end()
	k.grow(len(c.nodes))
	if fresh || !ok || len(changed) > len(c.nodes) {
		k.rebuild(c)
		return
	}
	stale := false
	for _, slot := range changed {
		stale = k.judge(c, int(slot)) || stale
	}
	if stale {
		k.rescale()
		return
	}
	for _, slot := range changed {
		k.rankNode(int(slot))
	}
}

func (k *class) grow(n int) {
	for len(k.refusals) < n {
		k.refusals = append(k.refusals, absent)
		for i := range k.raw {
			k.raw[i] = append(k.raw[i], 0)
		}
		k.rank.grow()
	}
}

// absent is the verdict on a slot without a node.
var absent = &refusal{unresolvable: true}

func (k *class) rebuild(c *cluster) {
	for slot := range c.nodes {
		k.judge(c, slot)
	}
	k.rescale()
}

// judge asks the kept rules about one node. It returns true if the largest raw scores may have changed.
func (k *class) judge(c *cluster, slot int) (stale bool) {
	was := k.refusals[slot]
	k.refusals[slot] = k.filter(c, slot)
	if was == nil {
		for i, r := range k.scored {
			stale = stale || r.scale != asIs && k.largest[i] > 0 && k.raw[i][slot] == k.largest[i]
		}
	}
	if k.refusals[slot] != nil {
		return stale
	}
	for i, r := range k.scored {
		k.raw[i][slot] = r.score(slot)
		stale = stale || r.scale != asIs && k.raw[i][slot] > k.largest[i]
	}
	return stale
}

func (k *class) filter(c *cluster, slot int) *refusal {
	if c.nodes[slot] == nil {
		return absent
	}
	if k.rejected != nil {
		return k.rejected
	}
	if k.names != nil && !k.names[c.nodes[slot].api.Name] {
		return k.unnamed
	}
	for _, r := range k.kept {
		if r.filter == nil {
			continue
		}
		if no := r.filter(slot); no != nil {
			no.plugin = r.plugin
			return no
		}
	}
	return nil
}

// rescale finds the largest raw scores anew and ranks every node.
func (k *class) rescale() {
	for i := range k.scored {
		k.largest[i] = 0
		for slot, no := range k.refusals {
			if no == nil {
				k.largest[i] = max(k.largest[i], k.raw[i][slot])
			}
		}
	}
	for slot := range k.refusals {
		k.rankNode(slot)
	}
}

// rankNode puts a node where its score says, or out of the ranking.
func (k *class) rankNode(slot int) {
	if k.refusals[slot] != nil {
		k.rank.remove(slot)
		return
	}
	k.place = k.place[:0]
	for _, r := range k.across {
		k.place = r.coordinates(slot, k.place)
	}
	k.rank.set(slot, k.total(slot), k.place)
}

func (k *class) total(slot int) int64 {
	var sum int64
	for i, r := range k.scored {
		sum += r.weight * r.scale.of(k.raw[i][slot], k.largest[i])
	}
	return sum
}

// best returns the slot of the best node for a pod of the class, and false if there is none. refresh comes first.
// The nodes of a cell differ in their kept scores alone, so that the first of each cell stands for it.
func (k *class) best() (slot int, ok bool) {
	feasible := k.feasible[:0]
	for _, cell := range k.rank.cells {
		if k.refuseAcross(cell.first()) == nil {
			feasible = append(feasible, cell)
		}
	}
	k.feasible = feasible
	if len(feasible) == 0 {
		return 0, false
	}
	if len(feasible) == 1 && len(feasible[0].heap) == 1 {
		return feasible[0].first(), true
	}
	totals := slices.Grow(k.totals[:0], len(feasible))[:len(feasible)]
	k.totals = totals
	for i, cell := range feasible {
		totals[i] = k.rank.score[cell.first()]
	}
	for _, r := range k.across {
		if r.score != nil {
			k.addNormalized(r)
		}
	}
	best, ties := 0, 1
	for i := 1; i < len(totals); i++ {
		switch {
		case totals[i] > totals[best]:
			best, ties = i, 1
		case totals[i] == totals[best]:
			if ties++; rand.IntN(ties) == 0 {
				best = i
			}
		}
	}
	return feasible[best].first(), true
}

// addNormalized adds a rule's scores of the feasible cells to their totals.
func (k *class) addNormalized(r *rule) {
	if r.begin != nil {
		r.begin(k.feasible)
	}
	raw := slices.Grow(k.scratch[:0], len(k.feasible))[:len(k.feasible)]
	k.scratch = raw
	for i, cell := range k.feasible {
		raw[i] = r.score(cell.first())
	}
	r.normalize(raw)
	for i := range raw {
		k.totals[i] += r.weight * raw[i]
	}
}

func (k *class) refuseAcross(slot int) *refusal {
	for _, r := range k.across {
		if r.filter == nil {
			continue
		}
		if no := r.filter(slot); no != nil {
			no.plugin = r.plugin
			return no
		}
	}
	return nil
}

// refusal is the verdict on a node as it is at this moment, whatever was kept.
func (k *class) refusal(c *cluster, slot int) *refusal {
	if no := k.filter(c, slot); no != nil {
		return no
	}
	return k.refuseAcross(slot)
}

// verdict returns why a node will not do, nil if it will. refresh, and best, come first.
func (k *class) verdict(slot int) *refusal {
	if no := k.refusals[slot]; no != nil {
		return no
	}
	return k.refuseAcross(slot)
}
