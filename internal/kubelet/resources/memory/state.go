package memory

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/resources/checkpoint"
)

// stateFile is what upstream's kubelet calls the file.
const stateFile = "memory_manager_state"

// Table is how much memory of one kind a node has, in bytes.
type Table struct {
	TotalMemSize   uint64 `json:"total"`
	SystemReserved uint64 `json:"systemReserved"`
	Allocatable    uint64 `json:"allocatable"`
	Reserved       uint64 `json:"reserved"`
	Free           uint64 `json:"free"`
}

// Node is the state of a NUMA node.
type Node struct {
	// NumberOfAssignments counts blocks that lie on the node.
	NumberOfAssignments int                            `json:"numberOfAssignments"`
	MemoryMap           map[corev1.ResourceName]*Table `json:"memoryMap"`
	// Cells is the group of nodes that this one serves with.
	Cells []int `json:"cells"`
}

// Nodes are the machine's nodes by their numbers.
type Nodes map[int]*Node

// Block is memory of one kind that was given.
type Block struct {
	NUMAAffinity []int               `json:"numaAffinity"`
	Type         corev1.ResourceName `json:"type"`
	Size         uint64              `json:"size"` // bytes
}

// Assignments are blocks by pod and container.
type Assignments map[string]map[string][]Block

// document is the file's contents.
type document struct {
	PolicyName   string              `json:"policyName"`
	MachineState Nodes               `json:"machineState"`
	Entries      Assignments         `json:"entries,omitempty"`
	Checksum     checkpoint.Checksum `json:"checksum"`
}

func (d document) sum() checkpoint.Checksum {
	d.Checksum = 0
	return checkpoint.Sum(&d, "memory.document", "state.MemoryManagerCheckpoint", "memory.Nodes", "state.NUMANodeMap", "memory.Node", "state.NUMANodeState",
		"memory.Table", "state.MemoryTable", "memory.Assignments", "state.ContainerMemoryAssignments", "memory.Block", "state.Block")
}

// state is who has which memory. It isn't safe for concurrent use.
type state struct {
	path string
	document
}

// openState reads the state, or begins one.
func openState(dir, policy string) (*state, error) {
	s := &state{path: filepath.Join(dir, stateFile), document: document{PolicyName: policy, MachineState: Nodes{}, Entries: Assignments{}}}
	err := s.load()
	if errors.Is(err, fs.ErrNotExist) {
		err = s.save()
	}
	if err != nil {
		return nil, fmt.Errorf("could not restore state from checkpoint: %w, please drain this node and delete the memory manager checkpoint file %q before restarting Kubelet", err, s.path)
	}
	return s, nil
}

func (s *state) load() error {
	d := document{MachineState: Nodes{}, Entries: Assignments{}}
	if err := checkpoint.Load(s.path, &d); err != nil {
		return err
	}
	if d.Checksum != 0 { // one that was written by hand
		if err := checkpoint.Verify(d.Checksum, d.sum()); err != nil {
			return err
		}
	}
	if d.PolicyName != s.PolicyName {
		return fmt.Errorf("[memorymanager] configured policy %q differs from state checkpoint policy %q", s.PolicyName, d.PolicyName)
	}
	s.document = d
	return nil
}

func (s *state) save() error {
	s.Checksum = s.sum()
	return checkpoint.Save(s.path, &s.document)
}

func (s *state) blocks(uid types.UID, container string) []Block {
	return s.Entries[string(uid)][container]
}

func (s *state) set(uid types.UID, container string, blocks []Block) {
	if s.Entries[string(uid)] == nil {
		s.Entries[string(uid)] = map[string][]Block{}
	}
	s.Entries[string(uid)][container] = blocks
}

// release gives a container's memory back.
func (s *state) release(uid types.UID, container string) {
	for _, b := range s.blocks(uid, container) {
		s.MachineState.release(b)
	}
	delete(s.Entries[string(uid)], container)
	if len(s.Entries[string(uid)]) == 0 {
		delete(s.Entries, string(uid))
	}
}

// take marks a block's nodes as used, and size bytes of them as given, from the first nodes first.
func (n Nodes) take(b Block, size uint64) {
	for _, id := range b.NUMAAffinity {
		node := n[id]
		node.NumberOfAssignments++
		node.Cells = slices.Clone(b.NUMAAffinity)
		if table := node.MemoryMap[b.Type]; table != nil {
			part := min(table.Free, size)
			table.Free, table.Reserved, size = table.Free-part, table.Reserved+part, size-part
		}
	}
}

// release undoes take for what a block has left.
func (n Nodes) release(b Block) {
	size := b.Size
	for _, id := range b.NUMAAffinity {
		node := n[id]
		if node.NumberOfAssignments--; node.NumberOfAssignments == 0 {
			node.Cells = []int{id}
		}
		if table := node.MemoryMap[b.Type]; table != nil {
			part := min(table.Reserved, size)
			table.Free, table.Reserved, size = table.Free+part, table.Reserved-part, size-part
		}
	}
}

// table returns what some nodes have of a kind in sum.
func (n Nodes) table(nodes []int, kind corev1.ResourceName) (sum Table) {
	for _, id := range nodes {
		if node := n[id]; node != nil && node.MemoryMap[kind] != nil {
			t := node.MemoryMap[kind]
			sum.Free, sum.Allocatable, sum.Reserved = sum.Free+t.Free, sum.Allocatable+t.Allocatable, sum.Reserved+t.Reserved
		}
	}
	return sum
}

// equal tells whether two states say the same. Within a group it doesn't matter which node's memory was given.
func (n Nodes) equal(other Nodes) bool {
	if len(n) != len(other) {
		return false
	}
	for id, a := range n {
		b := other[id]
		if b == nil || a.NumberOfAssignments != b.NumberOfAssignments || !sameNodes(a.Cells, b.Cells) || len(a.MemoryMap) != len(b.MemoryMap) {
			return false
		}
		for kind, x := range a.MemoryMap {
			y := b.MemoryMap[kind]
			if y == nil || x.TotalMemSize != y.TotalMemSize || x.SystemReserved != y.SystemReserved || x.Allocatable != y.Allocatable {
				return false
			}
			if n.table(a.Cells, kind) != other.table(a.Cells, kind) {
				return false
			}
		}
	}
	return true
}

func sameNodes(a, b []int) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
