package machine

import (
	"slices"

	"k8s.io/utils/cpuset"
)

// CPU is where one hardware thread sits. A core is named by its lowest thread, so that the number is unique on the machine.
type CPU struct {
	ID                 int
	Core, Socket, NUMA int
	// Uncore is the last-level cache that the thread shares with some cores of its node; where all share one it's the socket.
	Uncore int
}

// HugePages are those of one size that a node has.
type HugePages struct {
	Size  uint64 // bytes
	Count uint64
}

// Node is a NUMA node.
type Node struct {
	ID        int
	Memory    uint64 // bytes
	HugePages []HugePages
	// Distances to all nodes, in the order of their numbers.
	Distances []uint64
}

// Topology is the machine's layout. Read-only.
type Topology struct {
	CPUs  map[int]CPU
	Nodes []Node // by ID
}

// Level is a kind of unit that CPUs are grouped by: the function tells in which of them a CPU is.
type Level func(CPU) int

// The levels.
var (
	Thread Level = func(c CPU) int { return c.ID }
	Core   Level = func(c CPU) int { return c.Core }
	Uncore Level = func(c CPU) int { return c.Uncore }
	NUMA   Level = func(c CPU) int { return c.NUMA }
	Socket Level = func(c CPU) int { return c.Socket }
)

// All returns every CPU.
func (t *Topology) All() cpuset.CPUSet {
	ids := make([]int, 0, len(t.CPUs))
	for id := range t.CPUs {
		ids = append(ids, id)
	}
	return cpuset.New(ids...)
}

// In returns the CPUs of some units of a level.
func (t *Topology) In(l Level, units ...int) cpuset.CPUSet {
	return t.Within(t.All(), l, units...)
}

// Within returns those of a set that are in some units of a level.
func (t *Topology) Within(set cpuset.CPUSet, l Level, units ...int) cpuset.CPUSet {
	var ids []int
	for _, id := range set.UnsortedList() {
		if slices.Contains(units, l(t.CPUs[id])) {
			ids = append(ids, id)
		}
	}
	return cpuset.New(ids...)
}

// Units returns the units of a level that a set touches, in order.
func (t *Topology) Units(set cpuset.CPUSet, l Level) []int {
	var units []int
	for _, id := range set.UnsortedList() {
		units = append(units, l(t.CPUs[id]))
	}
	slices.Sort(units)
	return slices.Compact(units)
}

// Count is how many units of a level there are.
func (t *Topology) Count(l Level) int { return len(t.Units(t.All(), l)) }

// Per is how many CPUs a unit of a level has, on machines where all have as many.
func (t *Topology) Per(l Level) int {
	if n := t.Count(l); n > 0 {
		return len(t.CPUs) / n
	}
	return 0
}

// NodeIDs lists the NUMA nodes.
func (t *Topology) NodeIDs() []int {
	ids := make([]int, len(t.Nodes))
	for i := range t.Nodes {
		ids[i] = t.Nodes[i].ID
	}
	return ids
}
