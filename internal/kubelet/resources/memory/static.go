package memory

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// request is memory by its kind, in bytes.
type request map[corev1.ResourceName]uint64

// static is the policy's decisions. It isn't safe for concurrent use.
type static struct {
	nodes    []machine.Node
	reserved map[int]request
	// reuse is what init containers of one pod had on a set of nodes, which the containers after them take over.
	reuse    map[topology.Mask]request
	reuseUID types.UID
}

// initial is the machine's state with nothing given.
func (p *static) initial() Nodes {
	all := Nodes{}
	for i := range p.nodes {
		n := &p.nodes[i]
		node := &Node{MemoryMap: map[corev1.ResourceName]*Table{}, Cells: []int{n.ID}}
		huge := uint64(0)
		for _, pages := range n.HugePages {
			kind := corev1.ResourceName(corev1.ResourceHugePagesPrefix + resource.NewQuantity(int64(pages.Size), resource.BinarySI).String())
			total := pages.Size * pages.Count
			node.MemoryMap[kind] = table(total, total, p.reserved[n.ID][kind])
			huge += total
		}
		node.MemoryMap[corev1.ResourceMemory] = table(n.Memory, n.Memory-huge, p.reserved[n.ID][corev1.ResourceMemory])
		all[n.ID] = node
	}
	return all
}

func table(total, usable, reserved uint64) *Table {
	left := usable - min(usable, reserved)
	return &Table{TotalMemSize: total, SystemReserved: reserved, Allocatable: left, Free: left}
}

// begin checks a state that was found, or fills in a new one.
func (p *static) begin(s *state) error {
	expected := p.initial()
	if len(s.MachineState) == 0 {
		if len(s.Entries) > 0 {
			return errors.New("[memorymanager] machine state can not be empty when it has memory assignments")
		}
		s.MachineState = expected
		return s.save()
	}
	for uid, containers := range s.Entries {
		for name, blocks := range containers {
			for _, b := range blocks {
				for _, id := range b.NUMAAffinity {
					if expected[id] == nil {
						return fmt.Errorf("[memorymanager] (pod: %s, container: %s) the memory assignment uses the NUMA that does not exist", uid, name)
					}
					if expected[id].MemoryMap[b.Type] == nil {
						return fmt.Errorf("[memorymanager] (pod: %s, container: %s) the memory assignment uses memory resource that does not exist", uid, name)
					}
				}
				expected.take(b, b.Size)
			}
		}
	}
	if !s.MachineState.equal(expected) {
		return errors.New("[memorymanager] the expected machine state is different from the real one")
	}
	return nil
}

// pinned tells whether a pod's containers get memory of chosen nodes.
func pinned(pod *corev1.Pod) bool {
	return lifecycle.QOS(pod) == corev1.PodQOSGuaranteed && !topology.PodLevel(pod)
}

// isMemory tells whether a resource is memory or huge pages.
func isMemory(name corev1.ResourceName) bool {
	return name == corev1.ResourceMemory || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// wants is what a container asks for.
func wants(c *corev1.Container) (request, error) {
	out := request{}
	for name, q := range c.Resources.Requests {
		if !isMemory(name) {
			continue
		}
		bytes, ok := q.AsInt64()
		if !ok {
			return nil, errors.New("[memorymanager] failed to represent quantity as int64")
		}
		out[name] = uint64(bytes)
	}
	return out, nil
}

// podWants is what a pod's containers ask for at one time at most.
func podWants(pod *corev1.Pod) (request, error) {
	each := map[string]request{}
	for c := range topology.Containers(pod) {
		r, err := wants(c)
		if err != nil {
			return nil, err
		}
		each[c.Name] = r
	}
	out := request{}
	for i := range pod.Spec.Containers {
		for kind := range each[pod.Spec.Containers[i].Name] {
			out[kind] = topology.Peak(pod, func(c *corev1.Container) uint64 { return each[c.Name][kind] })
		}
	}
	return out, nil
}

// reusable is what a pod can take over of init containers on a set of nodes.
func (p *static) reusable(uid types.UID, nodes topology.Mask, kind corev1.ResourceName) uint64 {
	if uid != p.reuseUID {
		return 0
	}
	return p.reuse[nodes][kind]
}

// hints lists the sets of nodes that have a request free.
func (p *static) hints(state Nodes, uid types.UID, want request) []topology.Hint {
	ids := (&machine.Topology{Nodes: p.nodes}).NodeIDs()
	fewest := len(ids)
	var out []topology.Hint
	for mask := range topology.Masks(ids) {
		nodes := mask.Nodes()
		if !enough(want, func(kind corev1.ResourceName) uint64 { return state.table(nodes, kind).Allocatable }) {
			continue
		}
		fewest = min(fewest, len(nodes))
		if len(nodes) == 1 && len(state[nodes[0]].Cells) > 1 || violates(state, nodes) {
			continue
		}
		if enough(want, func(kind corev1.ResourceName) uint64 {
			return state.table(nodes, kind).Free + p.reusable(uid, mask, kind)
		}) {
			out = append(out, topology.Hint{Nodes: mask})
		}
	}
	for i := range out {
		out[i].Preferred = out[i].Nodes.Count() == fewest
	}
	return out
}

func enough(want request, have func(corev1.ResourceName) uint64) bool {
	for kind, size := range want {
		if have(kind) < size {
			return false
		}
	}
	return true
}

// violates tells whether one of several nodes is used singly or in another group.
func violates(state Nodes, nodes []int) bool {
	return len(nodes) > 1 && slices.ContainsFunc(nodes, func(id int) bool {
		return state[id].NumberOfAssignments > 0 && (len(state[id].Cells) == 1 || !sameNodes(state[id].Cells, nodes))
	})
}

// best returns the best hint of those that contain some nodes.
func best(hints []topology.Hint, with topology.Mask) (found topology.Hint) {
	for _, h := range hints {
		switch {
		case with&^h.Nodes != 0:
		case found.Nodes == 0, h.Preferred && !found.Preferred, h.Preferred == found.Preferred && h.Nodes.Narrower(found.Nodes):
			found = h
		}
	}
	return found
}

// choose finds the nodes for a request: those of the affinity if there's one and they have it, else the best that contain them.
func (p *static) choose(state Nodes, uid types.UID, want request, affinity topology.Hint) ([]int, error) {
	hint := affinity
	if hint.Nodes == 0 {
		if hint = best(p.hints(state, uid, want), 0); hint.Nodes == 0 {
			return nil, errors.New("[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available")
		}
		if affinity.Preferred && !hint.Preferred {
			return nil, errors.New("[memorymanager] failed to find the default preferred hint")
		}
	}
	if nodes := hint.Nodes.Nodes(); !enough(want, func(kind corev1.ResourceName) uint64 { return state.table(nodes, kind).Free }) {
		extended := best(p.hints(state, uid, want), hint.Nodes)
		if extended.Nodes == 0 {
			return nil, errors.New("[memorymanager] failed to find NUMA nodes to extend the current topology hint")
		}
		if hint.Preferred && !extended.Preferred {
			return nil, errors.New("[memorymanager] failed to find the extended preferred hint")
		}
		hint = extended
	}
	nodes := hint.Nodes.Nodes()
	if violates(state, nodes) {
		return nil, errors.New("[memorymanager] preferred hint violates NUMA node allocation")
	}
	return nodes, nil
}

// allocate gives a container memory.
func (p *static) allocate(s *state, pod *corev1.Pod, c *corev1.Container, affinity topology.Hint) error {
	if pod.UID != p.reuseUID {
		p.reuse, p.reuseUID = map[topology.Mask]request{}, pod.UID
	}
	if had := s.blocks(pod.UID, c.Name); had != nil {
		p.noteReuse(pod, c, had)
		return nil
	}
	want, err := wants(c)
	if err != nil {
		return err
	}
	nodes, err := p.choose(s.MachineState, pod.UID, want, affinity)
	if err != nil {
		return err
	}
	blocks := []Block{}
	for _, kind := range want.kinds() {
		b := Block{NUMAAffinity: nodes, Type: kind, Size: want[kind]}
		s.MachineState.take(b, b.Size-min(b.Size, p.reusable(pod.UID, topology.MaskOf(nodes...), kind)))
		blocks = append(blocks, b)
	}
	p.noteReuse(pod, c, blocks)
	s.set(pod.UID, c.Name, blocks)
	for _, b := range blocks {
		shrinkInit(s, pod, c.Name, b)
	}
	return nil
}

// kinds lists a request's kinds in order.
func (r request) kinds() []corev1.ResourceName {
	var out []corev1.ResourceName
	for kind := range r {
		out = append(out, kind)
	}
	slices.Sort(out)
	return out
}

// noteReuse records what the containers after this one can take over.
func (p *static) noteReuse(pod *corev1.Pod, c *corev1.Container, blocks []Block) {
	ends := topology.EndsFirst(pod, c.Name)
	for _, b := range blocks {
		nodes := topology.MaskOf(b.NUMAAffinity...)
		if p.reuse[nodes] == nil {
			p.reuse[nodes] = request{}
		}
		have := p.reuse[nodes][b.Type]
		if ends {
			p.reuse[nodes][b.Type] = max(have, b.Size)
		} else {
			p.reuse[nodes][b.Type] = have - min(have, b.Size)
		}
	}
}

// shrinkInit takes off init containers' blocks what a container has taken over, so that the sum of a pod's blocks is what it has.
func shrinkInit(s *state, pod *corev1.Pod, name string, b Block) {
	left := b.Size
	for i := range pod.Spec.InitContainers {
		init := &pod.Spec.InitContainers[i]
		if init.Name == name || left == 0 {
			return
		}
		if lifecycle.IsSidecar(init) {
			continue
		}
		blocks := s.blocks(pod.UID, init.Name)
		for j := range blocks {
			if blocks[j].Type == b.Type && sameNodes(blocks[j].NUMAAffinity, b.NUMAAffinity) {
				part := min(blocks[j].Size, left)
				blocks[j].Size, left = blocks[j].Size-part, left-part
			}
		}
	}
}
