package memory

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/metrics"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// The policies.
const (
	PolicyNone   = "None"
	PolicyStatic = "Static"
)

// Config is what a Manager is made from.
type Config struct {
	Policy string
	Nodes  []machine.Node
	// Reserved is what the node keeps of its memory and huge pages, ReservedBy says from which NUMA nodes: the sums must be equal.
	Reserved   corev1.ResourceList
	ReservedBy []Reservation
	// Dir holds the state.
	Dir string
	// Affinity is what the topology manager has decided for a container.
	Affinity func(uid types.UID, container string) topology.Hint
	Metrics  *metrics.Metrics
	Logger   *slog.Logger
}

// Manager gives containers memory. It implements topology.Provider.
type Manager struct {
	cfg Config

	mu     sync.Mutex
	static *static // nil is the policy None
	state  *state
}

// New opens the state.
func New(cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg}
	switch cfg.Policy {
	case PolicyNone:
	case PolicyStatic:
		reserved, err := byNode(cfg.Nodes, cfg.Reserved, cfg.ReservedBy)
		if err != nil {
			return nil, err
		}
		m.static = &static{nodes: cfg.Nodes, reserved: reserved}
	default:
		return nil, fmt.Errorf("unknown policy: %q", cfg.Policy)
	}
	var err error
	if m.state, err = openState(cfg.Dir, cfg.Policy); err != nil {
		return nil, err
	}
	if m.static != nil {
		if err := m.static.begin(m.state); err != nil {
			return nil, fmt.Errorf("invalid state, please drain node and remove policy state file: %w", err)
		}
	}
	return m, nil
}

// Static tells whether containers get memory of chosen nodes.
func (m *Manager) Static() bool { return m.static != nil }

// Hints implements topology.Provider.
func (m *Manager) Hints(pod *corev1.Pod, c *corev1.Container) topology.Hints {
	if m.static == nil || !pinned(pod) {
		return nil
	}
	want, err := wants(c)
	if err != nil {
		m.cfg.Logger.Warn("memory of a container not read", "pod", pod.Namespace+"/"+pod.Name, "container", c.Name, "error", err)
		return nil
	}
	return m.hints(pod, want, c)
}

// PodHints implements topology.Provider.
func (m *Manager) PodHints(pod *corev1.Pod) topology.Hints {
	if m.static == nil || !pinned(pod) {
		return nil
	}
	want, err := podWants(pod)
	if err != nil {
		m.cfg.Logger.Warn("memory of a pod not read", "pod", pod.Namespace+"/"+pod.Name, "error", err)
		return nil
	}
	return m.hints(pod, want, slices.Collect(topology.Containers(pod))...)
}

func (m *Manager) hints(pod *corev1.Pod, want request, containers ...*corev1.Container) topology.Hints {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(want) == 0 {
		return nil
	}
	for _, c := range containers {
		if had := m.state.blocks(pod.UID, c.Name); had != nil {
			return again(had, want)
		}
	}
	found := m.static.hints(m.state.MachineState, pod.UID, want)
	out := topology.Hints{}
	for kind := range want {
		if len(found) > 0 {
			out[string(kind)] = slices.Clone(found)
		}
	}
	return out
}

// again makes hints of what was given already, as after a restart.
func again(had []Block, want request) topology.Hints {
	if len(had) != len(want) {
		return nil
	}
	out := topology.Hints{}
	for _, b := range had {
		if size, ok := want[b.Type]; !ok || size != b.Size {
			return nil
		}
		out[string(b.Type)] = []topology.Hint{{Nodes: topology.MaskOf(b.NUMAAffinity...), Preferred: true}}
	}
	return out
}

// Allocate implements topology.Provider.
func (m *Manager) Allocate(_ context.Context, pod *corev1.Pod, c *corev1.Container) error {
	if m.static == nil || !pinned(pod) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cfg.Metrics.MemoryPinned.Inc()
	had := m.state.blocks(pod.UID, c.Name) != nil
	err := m.static.allocate(m.state, pod, c, m.cfg.Affinity(pod.UID, c.Name))
	if err == nil && !had {
		m.cfg.Metrics.Allocations.WithLabelValues("memory", "node").Add(float64(len(m.state.blocks(pod.UID, c.Name))))
		m.cfg.Metrics.Assignments.WithLabelValues("memory", "node_exclusive").Inc()
		err = m.state.save()
	}
	if err != nil {
		m.cfg.Metrics.MemoryPinErrors.Inc()
		m.cfg.Metrics.AllocationErrors.WithLabelValues("memory", "node").Inc()
	}
	return err
}

// Started takes back what init containers had that have ended before this container could start.
func (m *Manager) Started(pod *corev1.Pod, container string) error {
	if m.static == nil || !pinned(pod) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	released := false
	for i := range pod.Spec.InitContainers {
		init := &pod.Spec.InitContainers[i]
		if init.Name == container {
			break
		}
		if !lifecycle.IsSidecar(init) && m.state.blocks(pod.UID, init.Name) != nil {
			m.state.release(pod.UID, init.Name)
			released = true
		}
	}
	if !released {
		return nil
	}
	return m.state.save()
}

// Keep takes back what other pods have than some.
func (m *Manager) Keep(pods map[types.UID]*corev1.Pod) error {
	if m.static == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	released := false
	for uid, containers := range m.state.Entries {
		if pods[types.UID(uid)] != nil {
			continue
		}
		for name := range containers {
			m.state.release(types.UID(uid), name)
		}
		released = true
	}
	if !released {
		return nil
	}
	return m.state.save()
}

// Blocks returns the memory that a container was given.
func (m *Manager) Blocks(uid types.UID, container string) []Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.state.blocks(uid, container))
}

// NodesOf returns the NUMA nodes that a container may allocate from, as the kernel writes them; "" is all.
func (m *Manager) NodesOf(uid types.UID, container string) string {
	var nodes topology.Mask
	for _, b := range m.Blocks(uid, container) {
		nodes |= topology.MaskOf(b.NUMAAffinity...)
	}
	var text []string
	for _, id := range nodes.Nodes() {
		text = append(text, strconv.Itoa(id))
	}
	return strings.Join(text, ",")
}

// Allocatable returns what containers can get, node by node.
func (m *Manager) Allocatable() []Block {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Block
	for i := range m.cfg.Nodes {
		node := m.state.MachineState[m.cfg.Nodes[i].ID]
		if node == nil {
			continue
		}
		for kind, t := range node.MemoryMap {
			if t.Allocatable > 0 {
				out = append(out, Block{NUMAAffinity: []int{m.cfg.Nodes[i].ID}, Type: kind, Size: t.Allocatable})
			}
		}
	}
	return out
}
