package scheduler

import (
	"container/heap"
	"math/rand/v2"
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
	position uint64 // in the cluster's change log
	usedAt   uint64 // the decision that used it last, for eviction
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
		k.place(int(slot))
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
		k.place(slot)
	}
}

// place puts a node where its score says, or out of the ranking.
func (k *class) place(slot int) {
	if k.refusals[slot] != nil {
		k.rank.remove(slot)
		return
	}
	k.rank.set(slot, k.total(slot))
}

func (k *class) total(slot int) int64 {
	var sum int64
	for i, r := range k.scored {
		sum += r.weight * r.scale.of(k.raw[i][slot], k.largest[i])
	}
	return sum
}

// best returns the slot of the best node for a pod of the class, and false if there is none. refresh comes first.
func (k *class) best(c *cluster) (slot int, ok bool) {
	if len(k.across) == 0 {
		return k.rank.first()
	}
	return k.bestAcross()
}

// bestAcross asks the rules that look across nodes about every node that the kept rules accept.
func (k *class) bestAcross() (slot int, ok bool) {
	for _, r := range k.across {
		if r.prepare != nil {
			r.prepare()
		}
	}
	feasible := make([]int32, 0, len(k.rank.heap))
	for _, s := range k.rank.heap {
		if k.refuseAcross(int(s)) == nil {
			feasible = append(feasible, s)
		}
	}
	if len(feasible) == 0 {
		return 0, false
	}
	totals := make([]int64, len(feasible))
	for i, s := range feasible {
		totals[i] = k.rank.score[s]
	}
	for _, r := range k.across {
		if r.score != nil {
			addScaled(totals, r, feasible)
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
	return int(feasible[best]), true
}

func addScaled(totals []int64, r *rule, feasible []int32) {
	raw := make([]int64, len(feasible))
	var largest int64
	for i, s := range feasible {
		raw[i] = r.score(int(s))
		largest = max(largest, raw[i])
	}
	for i := range raw {
		totals[i] += r.weight * r.scale.of(raw[i], largest)
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

// verdict returns why a node will not do, nil if it will. refresh, and best, come first.
func (k *class) verdict(slot int) *refusal {
	if no := k.refusals[slot]; no != nil {
		return no
	}
	return k.refuseAcross(slot)
}

// ranking is a heap of slots, best score first; equal scores come in an order of the ranking's own, so that classes spread.
type ranking struct {
	heap  []int32
	at    []int32 // by slot: its place in the heap, -1 if none
	score []int64
	tie   []uint32
}

func (r *ranking) grow() {
	r.at, r.score, r.tie = append(r.at, -1), append(r.score, 0), append(r.tie, rand.Uint32())
}

func (r *ranking) Len() int { return len(r.heap) }
func (r *ranking) Less(i, j int) bool {
	a, b := r.heap[i], r.heap[j]
	if r.score[a] != r.score[b] {
		return r.score[a] > r.score[b]
	}
	return r.tie[a] < r.tie[b]
}
func (r *ranking) Swap(i, j int) {
	r.heap[i], r.heap[j] = r.heap[j], r.heap[i]
	r.at[r.heap[i]], r.at[r.heap[j]] = int32(i), int32(j)
}
func (r *ranking) Push(x any) {
	slot := x.(int32)
	r.at[slot] = int32(len(r.heap))
	r.heap = append(r.heap, slot)
}
func (r *ranking) Pop() any {
	last := len(r.heap) - 1
	slot := r.heap[last]
	r.heap = r.heap[:last]
	r.at[slot] = -1
	return slot
}

func (r *ranking) set(slot int, score int64) {
	if r.at[slot] < 0 {
		r.score[slot] = score
		heap.Push(r, int32(slot))
		return
	}
	if r.score[slot] != score {
		r.score[slot] = score
		heap.Fix(r, int(r.at[slot]))
	}
}

func (r *ranking) remove(slot int) {
	if r.at[slot] >= 0 {
		heap.Remove(r, int(r.at[slot]))
	}
}

func (r *ranking) first() (int, bool) {
	if len(r.heap) == 0 {
		return 0, false
	}
	return int(r.heap[0]), true
}
