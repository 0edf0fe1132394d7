package cpu

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"k8s.io/utils/cpuset"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// share is a distribution over NUMA nodes: each of nodes gives each CPUs, and those of rest give what can't be divided evenly, a group at a time.
type share struct {
	nodes, rest []int
	each        int
	balance     float64 // how unevenly CPUs are free afterwards
}

// distribute chooses CPUs in equal parts from as few NUMA nodes as can give equal parts, in groups of a size, so that cores aren't divided. Where no
// choice of nodes can, they are taken as lies next.
func distribute(topo *machine.Topology, free cpuset.CPUSet, need, group int, o *options) (cpuset.CPUSet, error) {
	packed := options{spreadCores: o.spreadCores}
	if need == 0 || need%group != 0 {
		return take(topo, free, need, &packed)
	}
	if need > free.Size() {
		return cpuset.New(), notEnough(need, free.Size())
	}
	t := newTaker(topo, free, need)
	nodes := t.ranked(free, t.nodePath())
	for k := t.fewestNodes(group); k <= min((need-1)/group+1, len(nodes)); k++ {
		if best := t.bestShare(nodes, k, group); best != nil {
			return t.takeShare(best, group, &packed)
		}
	}
	return take(topo, free, need, &packed)
}

// fewestNodes is how many NUMA nodes the need takes on an empty machine.
func (t *taker) fewestNodes(group int) int {
	groups := (len(t.topo.CPUs)-1)/group + 1
	perNode := (groups-1)/t.topo.Count(machine.NUMA) + 1
	return ((t.need-1)/group)/perNode + 1
}

// bestShare returns the most balanced distribution over k of some nodes; nil if there's none.
func (t *taker) bestShare(nodes []int, k, group int) *share {
	free := map[int]int{}
	for _, n := range nodes {
		free[n] = t.topo.Within(t.free, machine.NUMA, n).Size()
	}
	var best *share
	for chosen := range topology.Combinations(nodes, k) {
		if s := shareOver(chosen, free, t.need, group); s != nil && (best == nil || s.balance < best.balance) {
			best = s
		}
		if best != nil && best.balance == 0 {
			break
		}
	}
	return best
}

// shareOver distributes a need over nodes; nil if they cannot give it.
func shareOver(nodes []int, free map[int]int, need, group int) *share {
	groups := 0
	for _, n := range nodes {
		groups += free[n] / group
	}
	s := &share{nodes: nodes, each: need / len(nodes) / group * group, balance: math.MaxFloat64}
	if groups*group < need || slices.ContainsFunc(nodes, func(n int) bool { return free[n] < s.each }) {
		return nil
	}
	left := maps.Clone(free)
	var able []int
	for _, n := range nodes {
		left[n] -= s.each
		if left[n] >= group {
			able = append(able, n)
		}
	}
	rest := need - s.each*len(nodes)
	if rest == 0 {
		s.balance = deviation(left)
		return s
	}
	for k := len(able); k >= 1; k-- {
		for chosen := range topology.Combinations(able, k) {
			if after := deduct(left, chosen, rest, group); after != nil {
				if b := deviation(after); b < s.balance {
					s.balance, s.rest = b, chosen
				}
			}
		}
	}
	if s.rest == nil {
		return nil
	}
	return s
}

// deduct takes a number of CPUs from nodes in turn, a group at a time; nil if they don't have as many.
func deduct(free map[int]int, nodes []int, count, group int) map[int]int {
	after := maps.Clone(free)
	for count > 0 {
		before := count
		for _, n := range nodes {
			if count > 0 && after[n] >= group {
				after[n] -= group
				count -= group
			}
		}
		if count == before {
			return nil
		}
	}
	return after
}

// deviation is the standard deviation, to three places, so that equals compare as such.
func deviation(free map[int]int) float64 {
	round := func(x float64) float64 { return math.Round(x*1000) / 1000 }
	sum := 0.0
	for _, n := range free {
		sum += float64(n)
	}
	mean := round(sum / float64(len(free)))
	squares := 0.0
	for _, n := range free {
		squares += (float64(n) - mean) * (float64(n) - mean)
	}
	return round(math.Sqrt(squares / float64(len(free))))
}

// takeShare takes what a distribution says.
func (t *taker) takeShare(s *share, group int, o *options) (cpuset.CPUSet, error) {
	give := func(node, count int) error {
		set, err := take(t.topo, t.topo.Within(t.free, machine.NUMA, node), count, o)
		if err != nil {
			return fmt.Errorf("accounting error, NUMA node %d: %w", node, err)
		}
		t.claim(set)
		return nil
	}
	for _, n := range s.nodes {
		if err := give(n, s.each); err != nil {
			return cpuset.New(), err
		}
	}
	for t.need > 0 {
		for _, n := range s.rest {
			if t.need > 0 && t.topo.Within(t.free, machine.NUMA, n).Size() >= group {
				if err := give(n, group); err != nil {
					return cpuset.New(), err
				}
			}
		}
	}
	return t.taken, nil
}
