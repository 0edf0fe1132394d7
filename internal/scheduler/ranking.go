package scheduler

import (
	"container/heap"
	"encoding/binary"
	"math/rand/v2"
)

// ranking keeps slots in cells, by coordinates, and in each cell the best score first. Equal scores come in an order of the
// ranking's own, so that classes spread.
type ranking struct {
	cells []*cell // those with nodes
	byKey map[string]*cell
	cell  []*cell // by slot: where it is, nil if nowhere
	at    []int32 // by slot: its place in its cell's heap
	score []int64
	tie   []uint32
	key   []byte
}

// cell holds nodes that the rules that look across nodes cannot tell apart, as a heap.
type cell struct {
	ranking *ranking
	key     string
	index   int // in the ranking's cells
	heap    []int32
}

// first is the best of the nodes.
func (c *cell) first() int { return int(c.heap[0]) }

func (r *ranking) grow() {
	r.cell, r.at, r.score, r.tie = append(r.cell, nil), append(r.at, -1), append(r.score, 0), append(r.tie, rand.Uint32())
}

// set puts a slot where its coordinates and its score say.
func (r *ranking) set(slot int, score int64, coordinates []int64) {
	r.key = r.key[:0]
	for _, x := range coordinates {
		r.key = binary.AppendVarint(r.key, x)
	}
	in := r.cell[slot]
	if in != nil && in.key == string(r.key) {
		if r.score[slot] != score {
			r.score[slot] = score
			heap.Fix(in, int(r.at[slot]))
		}
		return
	}
	r.remove(slot)
	in = r.byKey[string(r.key)]
	if in == nil {
		in = &cell{ranking: r, key: string(r.key), index: len(r.cells)}
		if r.byKey == nil {
			r.byKey = map[string]*cell{}
		}
		r.byKey[in.key] = in
		r.cells = append(r.cells, in)
	}
	r.score[slot], r.cell[slot] = score, in
	heap.Push(in, int32(slot))
}

func (r *ranking) remove(slot int) {
	in := r.cell[slot]
	if in == nil {
		return
	}
	heap.Remove(in, int(r.at[slot]))
	r.cell[slot] = nil
	if len(in.heap) > 0 {
		return
	}
	delete(r.byKey, in.key)
	last := len(r.cells) - 1
	r.cells[in.index] = r.cells[last]
	r.cells[in.index].index = in.index
	r.cells[last] = nil
	r.cells = r.cells[:last]
}

func (c *cell) Len() int { return len(c.heap) }
func (c *cell) Less(i, j int) bool {
	a, b, r := c.heap[i], c.heap[j], c.ranking
	if r.score[a] != r.score[b] {
		return r.score[a] > r.score[b]
	}
	return r.tie[a] < r.tie[b]
}
func (c *cell) Swap(i, j int) {
	c.heap[i], c.heap[j] = c.heap[j], c.heap[i]
	c.ranking.at[c.heap[i]], c.ranking.at[c.heap[j]] = int32(i), int32(j)
}
func (c *cell) Push(x any) {
	slot := x.(int32)
	c.ranking.at[slot] = int32(len(c.heap))
	c.heap = append(c.heap, slot)
}
func (c *cell) Pop() any {
	last := len(c.heap) - 1
	slot := c.heap[last]
	c.heap = c.heap[:last]
	c.ranking.at[slot] = -1
	return slot
}
