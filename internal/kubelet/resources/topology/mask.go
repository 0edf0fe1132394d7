package topology

import (
	"iter"
	"math/bits"
	"strconv"
)

// Mask is a set of NUMA nodes by their numbers, which are below 64.
type Mask uint64

// MaskOf returns the set of some nodes.
func MaskOf(nodes ...int) Mask {
	var m Mask
	for _, n := range nodes {
		m |= 1 << n
	}
	return m
}

// Has tells whether a node is in the set.
func (m Mask) Has(node int) bool { return node >= 0 && node < 64 && m&(1<<node) != 0 }

// HasAny tells whether one of some nodes is in the set.
func (m Mask) HasAny(nodes []int) bool { return m&MaskOf(nodes...) != 0 }

// Count is how many nodes there are.
func (m Mask) Count() int { return bits.OnesCount64(uint64(m)) }

// Nodes lists the nodes in order.
func (m Mask) Nodes() []int {
	nodes := make([]int, 0, m.Count())
	for rest := m; rest != 0; rest &= rest - 1 {
		nodes = append(nodes, bits.TrailingZeros64(uint64(rest)))
	}
	return nodes
}

// Narrower tells whether the set has fewer nodes than another, or as many with lower numbers.
func (m Mask) Narrower(other Mask) bool {
	if a, b := m.Count(), other.Count(); a != b {
		return a < b
	}
	return m < other
}

// String writes the set in binary.
func (m Mask) String() string { return strconv.FormatUint(uint64(m), 2) }

// Masks yields every set of at least one of some nodes, smaller sets first.
func Masks(nodes []int) iter.Seq[Mask] {
	return func(yield func(Mask) bool) {
		for size := 1; size <= len(nodes); size++ {
			for combination := range Combinations(nodes, size) {
				if !yield(MaskOf(combination...)) {
					return
				}
			}
		}
	}
}

// Combinations yields every choice of k of some numbers, in their order. The slice is the receiver's to keep.
func Combinations(numbers []int, k int) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		chosen := make([]int, 0, k)
		var choose func(from int) bool
		choose = func(from int) bool {
			if len(chosen) == k {
				return yield(append([]int(nil), chosen...))
			}
			for i := from; i <= len(numbers)-(k-len(chosen)); i++ {
				chosen = append(chosen, numbers[i])
				if !choose(i + 1) {
					return false
				}
				chosen = chosen[:len(chosen)-1]
			}
			return true
		}
		if k > 0 {
			choose(0)
		}
	}
}
