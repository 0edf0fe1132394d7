package cpu

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/utils/cpuset"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
)

// taker chooses CPUs one unit after the other.
type taker struct {
	topo  *machine.Topology
	free  cpuset.CPUSet
	taken cpuset.CPUSet
	need  int
	// sockets tells that sockets contain NUMA nodes and not the other way round.
	sockets bool
}

func newTaker(topo *machine.Topology, free cpuset.CPUSet, need int) *taker {
	return &taker{topo: topo, free: free, need: need, sockets: topo.Count(machine.Socket) < topo.Count(machine.NUMA)}
}

// path leads from the largest units to those of some levels below sockets and NUMA nodes.
func (t *taker) path(below ...machine.Level) []machine.Level {
	if t.sockets {
		return append([]machine.Level{machine.Socket, machine.NUMA}, below...)
	}
	return append([]machine.Level{machine.NUMA, machine.Socket}, below...)
}

// nodePath leads through NUMA nodes, and through sockets only if they contain them.
func (t *taker) nodePath(below ...machine.Level) []machine.Level {
	if t.sockets {
		return t.path(below...)
	}
	return append([]machine.Level{machine.NUMA}, below...)
}

// socketPath leads through sockets, and through NUMA nodes only if they contain them.
func (t *taker) socketPath(below ...machine.Level) []machine.Level {
	if t.sockets {
		return append([]machine.Level{machine.Socket}, below...)
	}
	return t.path(below...)
}

var errNotFound = errors.New("failed to allocate cpus")

func notEnough(need, free int) error {
	return fmt.Errorf("not enough cpus available to satisfy request: requested=%d, available=%d", need, free)
}

// take chooses CPUs that lie together: units that are wholly free and not larger than the need, from the largest kind to the smallest, and of each
// kind those first whose surroundings are used most. It leaves large free units for those who need them.
func take(topo *machine.Topology, free cpuset.CPUSet, need int, o *options) (cpuset.CPUSet, error) {
	t := newTaker(topo, free, need)
	if need > free.Size() {
		return cpuset.New(), notEnough(need, free.Size())
	}
	t.takeWhole(t.path()[:1])
	t.takeWhole(t.path())
	if o.alignUncore {
		t.takeCaches()
	}
	last := t.path(machine.Core, machine.Thread)
	if o.spreadCores {
		last = t.socketPath(machine.Thread)
	} else {
		t.takeWhole(t.path(machine.Core))
	}
	for _, id := range t.ranked(t.free, last) {
		if t.need > 0 {
			t.claim(cpuset.New(id))
		}
	}
	if t.need > 0 {
		return cpuset.New(), errNotFound
	}
	return t.taken, nil
}

func (t *taker) claim(set cpuset.CPUSet) {
	t.free, t.taken, t.need = t.free.Difference(set), t.taken.Union(set), t.need-set.Size()
}

// takeWhole takes units of the last level of a path that are free as a whole.
func (t *taker) takeWhole(path []machine.Level) {
	level := path[len(path)-1]
	for _, unit := range t.ranked(t.free, path) {
		all := t.topo.In(level, unit)
		if t.need > 0 && all.Size() <= t.need && all.IsSubsetOf(t.free) {
			t.claim(all)
		}
	}
}

// takeCaches takes whole groups of cores that share a cache, and of the first group that has room for it what is needed then.
func (t *taker) takeCaches() {
	path := t.nodePath(machine.Uncore)
	perCache := t.topo.Per(machine.Uncore)
	for _, cache := range t.ranked(t.free, path) {
		if t.need >= perCache {
			t.takeWhole(path)
		}
		if t.need > 0 {
			t.takePart(cache)
		}
		if t.need == 0 {
			return
		}
	}
}

// takePart takes all that is still needed from one cache's cores, or nothing.
func (t *taker) takePart(cache int) {
	perCore := t.topo.Per(machine.Core)
	inCache := t.topo.Within(t.free, machine.Uncore, cache)
	cores := t.topo.Units(inCache, machine.Core)
	cores = cores[:min(len(cores), (t.need+perCore-1)/perCore)]
	cpus := t.topo.Within(t.free, machine.Core, cores...).List()
	if t.need%2 != 0 && perCore > 1 && len(cpus) > t.need {
		cpus = cpus[:len(cpus)-1] // of the last core one thread is enough
	}
	if len(cpus) == t.need {
		t.claim(cpuset.New(cpus...))
	}
}

// ranked lists the units of a path's last level that a set touches: within the units of the levels before it, those first of which least is free.
func (t *taker) ranked(set cpuset.CPUSet, path []machine.Level) []int {
	members := map[int][]int{}
	for _, id := range set.UnsortedList() {
		unit := path[0](t.topo.CPUs[id])
		members[unit] = append(members[unit], id)
	}
	units := slices.SortedFunc(maps.Keys(members), func(a, b int) int {
		return cmp.Or(cmp.Compare(len(members[a]), len(members[b])), cmp.Compare(a, b))
	})
	if len(path) == 1 {
		return units
	}
	var out []int
	for _, unit := range units {
		out = append(out, t.ranked(cpuset.New(members[unit]...), path[1:])...)
	}
	return out
}
