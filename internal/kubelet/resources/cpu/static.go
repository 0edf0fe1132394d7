package cpu

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// static is the policy's decisions. It isn't safe for concurrent use.
type static struct {
	topo    *machine.Topology
	options *options
	// reserved are CPUs that nobody gets for itself, reservedCores those with the other threads of their cores.
	reserved, reservedCores cpuset.CPUSet
	// reuse are CPUs of init containers of one pod, which the containers after them take over.
	reuse    cpuset.CPUSet
	reuseUID types.UID
}

// newStatic reserves CPUs: those that are named, or as many as are asked for.
func newStatic(topo *machine.Topology, o *options, count int, named cpuset.CPUSet) (*static, error) {
	p := &static{topo: topo, options: o, reserved: named}
	if named.IsEmpty() {
		if set, err := p.take(topo.All(), count); err == nil {
			p.reserved = set
		}
	}
	if p.reserved.Size() != count {
		return nil, fmt.Errorf("[cpumanager] unable to reserve the required amount of CPUs (size of %s did not equal %d)", p.reserved, count)
	}
	if !p.reserved.IsSubsetOf(topo.All()) {
		return nil, fmt.Errorf("[cpumanager] unable to build the reserved physical CPUs from the reserved set: %s is not a subset of %s", p.reserved, topo.All())
	}
	p.reservedCores = topo.In(machine.Core, topo.Units(p.reserved, machine.Core)...)
	return p, nil
}

func (p *static) take(free cpuset.CPUSet, count int) (cpuset.CPUSet, error) {
	if !p.options.distribute {
		return take(p.topo, free, count, p.options)
	}
	group := 1
	if p.options.fullCores {
		group = p.topo.Per(machine.Core)
	}
	return distribute(p.topo, free, count, group, p.options)
}

// begin checks a state that was found, or fills in a new one.
func (p *static) begin(s *state) error {
	all := p.topo.All()
	if p.options.strict {
		all = all.Difference(p.reserved)
	}
	if s.shared.IsEmpty() {
		if len(s.own) > 0 {
			return fmt.Errorf("default cpuset cannot be empty")
		}
		s.shared = all
		return s.save()
	}
	inShared := p.reserved.Intersection(s.shared)
	if p.options.strict && !inShared.IsEmpty() {
		return fmt.Errorf("some of strictly reserved cpus: %q are present in defaultCpuSet: %q", inShared, s.shared)
	}
	if !p.options.strict && !inShared.Equals(p.reserved) {
		return fmt.Errorf("not all reserved cpus: %q are present in defaultCpuSet: %q", p.reserved, s.shared)
	}
	known := s.shared
	for uid, containers := range s.own {
		for name, set := range containers {
			if !s.shared.Intersection(set).IsEmpty() {
				return fmt.Errorf("pod: %s, container: %s cpuset: %q overlaps with default cpuset %q", uid, name, set, s.shared)
			}
			known = known.Union(set)
		}
	}
	if !known.Equals(all) {
		return fmt.Errorf("current set of available CPUs %q doesn't match with CPUs in state %q", all, known)
	}
	return nil
}

// wants is how many CPUs a container gets for itself.
func wants(pod *corev1.Pod, c *corev1.Container) int {
	q := c.Resources.Requests[corev1.ResourceCPU]
	if lifecycle.QOS(pod) != corev1.PodQOSGuaranteed || topology.PodLevel(pod) || q.MilliValue()%1000 != 0 {
		return 0
	}
	return int(q.Value())
}

// refuseCores refuses what cannot be given in whole cores.
func (p *static) refuseCores(s *state, count int) error {
	if !p.options.fullCores {
		return nil
	}
	perCore := p.topo.Per(machine.Core)
	const reason = "SMTAlignmentError"
	if count%perCore != 0 {
		return &topology.Refusal{Reason: reason, Message: fmt.Sprintf("SMT Alignment Error: requested %d cpus not multiple cpus per core = %d", count, perCore)}
	}
	if free := s.shared.Difference(p.reservedCores).Size(); count > free {
		return &topology.Refusal{Reason: reason, Message: fmt.Sprintf("SMT Alignment Error: not enough free physical CPUs: available physical CPUs = %d, requested CPUs = %d, CPUs per core = %d", free, count, perCore)}
	}
	return nil
}

func (p *static) free(s *state) cpuset.CPUSet { return s.shared.Difference(p.reserved) }

// allocate gives a container CPUs: of the affinity's nodes as many as they have, the rest from elsewhere.
func (p *static) allocate(s *state, pod *corev1.Pod, c *corev1.Container, count int, affinity topology.Mask) error {
	if err := p.refuseCores(s, count); err != nil {
		return err
	}
	if pod.UID != p.reuseUID {
		p.reuse, p.reuseUID = cpuset.New(), pod.UID
	}
	set, had := s.own[pod.UID][c.Name]
	if !had {
		var err error
		if set, err = p.choose(p.free(s).Union(p.reuse), count, affinity); err != nil {
			return err
		}
		s.shared = s.shared.Difference(set)
		s.set(pod.UID, c.Name, set)
	}
	if topology.EndsFirst(pod, c.Name) {
		p.reuse = p.reuse.Union(set)
	} else {
		p.reuse = p.reuse.Difference(set)
	}
	return nil
}

func (p *static) choose(free cpuset.CPUSet, count int, affinity topology.Mask) (cpuset.CPUSet, error) {
	near := cpuset.New()
	if affinity != 0 {
		aligned := p.topo.Within(free, machine.NUMA, affinity.Nodes()...)
		if p.options.alignSocket {
			aligned = p.topo.Within(free, machine.Socket, p.socketsOf(affinity)...)
		}
		var err error
		if near, err = p.take(aligned, min(count, aligned.Size())); err != nil {
			return near, err
		}
	}
	far, err := p.take(free.Difference(near), count-near.Size())
	return near.Union(far), err
}

func (p *static) socketsOf(nodes topology.Mask) []int {
	return p.topo.Units(p.topo.In(machine.NUMA, nodes.Nodes()...), machine.Socket)
}

// uncoreAligned tells whether all CPUs of a set share a cache.
func (p *static) uncoreAligned(set cpuset.CPUSet) bool {
	return len(p.topo.Units(set, machine.Uncore)) <= 1
}

// hints lists the sets of NUMA nodes that have a number of CPUs free. All of must have to be among them.
func (p *static) hints(free, must cpuset.CPUSet, count int) []topology.Hint {
	nodes := p.topo.Units(p.topo.All(), machine.NUMA)
	mustNodes := topology.MaskOf(p.topo.Units(must, machine.NUMA)...)
	fewest := len(nodes)
	hints := []topology.Hint{}
	for mask := range topology.Masks(nodes) {
		if p.topo.In(machine.NUMA, mask.Nodes()...).Size() >= count {
			fewest = min(fewest, mask.Count())
		}
		if mustNodes&^mask == 0 && must.Size()+p.topo.Within(free, machine.NUMA, mask.Nodes()...).Size() >= count {
			hints = append(hints, topology.Hint{Nodes: mask})
		}
	}
	for i := range hints {
		hints[i].Preferred = hints[i].Nodes.Count() == fewest || p.options.alignSocket && p.socketAligned(hints[i].Nodes, fewest)
	}
	return hints
}

// socketAligned tells whether nodes are on as few sockets as a number of nodes can be.
func (p *static) socketAligned(nodes topology.Mask, fewest int) bool {
	perSocket := p.topo.Count(machine.NUMA) / p.topo.Count(machine.Socket)
	return perSocket > 0 && len(p.socketsOf(nodes)) == (fewest+perSocket-1)/perSocket
}
