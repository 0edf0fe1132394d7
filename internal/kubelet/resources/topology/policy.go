package topology

import (
	"fmt"
	"log/slog"
	"strconv"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
)

// The policies.
const (
	PolicyNone           = "none"
	PolicyBestEffort     = "best-effort"
	PolicyRestricted     = "restricted"
	PolicySingleNUMANode = "single-numa-node"
)

// Names of options.
const (
	optionClosest  = "prefer-closest-numa-nodes"
	optionMaxNodes = "max-allowable-numa-nodes"
)

// defaultMaxNodes bounds the NUMA nodes of a machine: the number of hints doubles with each.
const defaultMaxNodes = 8

type options struct {
	closest  bool
	maxNodes int
}

func parseOptions(given map[string]string, logger *slog.Logger) (options, error) {
	o := options{maxNodes: defaultMaxNodes}
	for name, value := range given {
		var err error
		switch name {
		case optionClosest:
			if o.closest, err = strconv.ParseBool(value); err != nil {
				return o, fmt.Errorf("bad value for option %q: %w", name, err)
			}
		case optionMaxNodes:
			if o.maxNodes, err = strconv.Atoi(value); err != nil {
				return o, fmt.Errorf("unable to convert policy option to integer %q: %w", name, err)
			}
			if o.maxNodes < defaultMaxNodes {
				return o, fmt.Errorf("the minimum value of %q should not be less than %v", name, defaultMaxNodes)
			}
			if o.maxNodes > defaultMaxNodes {
				logger.Warn("more NUMA nodes are allowed than is recommended", "allowed", o.maxNodes, "recommended", defaultMaxNodes)
			}
		default:
			return o, fmt.Errorf("unknown Topology Manager Policy option: %q", name)
		}
	}
	return o, nil
}

// policy makes one hint of many and decides whether a pod may run with it.
type policy struct {
	name string
	all  Mask
	merger
}

func newPolicy(name string, o options, nodes []machine.Node) (*policy, error) {
	switch name {
	case PolicyBestEffort, PolicyRestricted, PolicySingleNUMANode:
	default:
		return nil, fmt.Errorf("unknown policy: %q", name)
	}
	if len(nodes) > o.maxNodes {
		return nil, fmt.Errorf("unsupported on machines with more than %v NUMA Nodes", o.maxNodes)
	}
	p := &policy{name: name}
	for i := range nodes {
		if o.closest && nodes[i].Distances == nil {
			return nil, fmt.Errorf("cannot discover NUMA topology: the kernel tells no distances of NUMA node %d", nodes[i].ID)
		}
		p.all |= MaskOf(nodes[i].ID)
	}
	p.merger = merger{all: p.all, better: narrower}
	if o.closest && name != PolicySingleNUMANode {
		p.better = closer(nodes)
	}
	return p, nil
}

// decide returns the hint that serves all providers best, and whether the policy is content with it.
func (p *policy) decide(providers []Hints) (Hint, bool) {
	all := lists(providers)
	if p.name == PolicySingleNUMANode {
		all = singleNode(all)
	}
	m := p.merger
	m.enough = neediest(all)
	best := m.merge(all)
	if p.name == PolicySingleNUMANode && best.Nodes == p.all {
		best.Nodes = 0
	}
	return best, best.Preferred || p.name == PolicyBestEffort
}

// guaranteesAlignment tells whether a container either gets all from one node or isn't admitted.
func (p *policy) guaranteesAlignment() bool { return p != nil && p.name == PolicySingleNUMANode }

// singleNode keeps the preferred hints of one node, and those without a preference.
func singleNode(all [][]Hint) [][]Hint {
	out := make([][]Hint, len(all))
	for i, list := range all {
		for _, h := range list {
			if h.Preferred && h.Nodes.Count() <= 1 {
				out[i] = append(out[i], h)
			}
		}
	}
	return out
}

func narrower(a, b Mask) Mask {
	if a.Narrower(b) {
		return a
	}
	return b
}

// closer compares sets of the same size by how far their nodes are apart.
func closer(nodes []machine.Node) func(a, b Mask) Mask {
	distances := map[int][]uint64{}
	column := map[int]int{} // the kernel lists distances in the order of the nodes
	for i := range nodes {
		distances[nodes[i].ID], column[nodes[i].ID] = nodes[i].Distances, i
	}
	// Sets of one size have as many pairs, so that the sum orders them as the mean does.
	spread := func(m Mask) (sum uint64) {
		for _, from := range m.Nodes() {
			for _, to := range m.Nodes() {
				sum += distances[from][column[to]]
			}
		}
		return sum
	}
	return func(a, b Mask) Mask {
		if a.Count() == b.Count() {
			if x, y := spread(a), spread(b); x < y {
				return a
			} else if y < x {
				return b
			}
		}
		return narrower(a, b)
	}
}
