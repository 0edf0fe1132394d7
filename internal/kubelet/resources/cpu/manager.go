package cpu

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/metrics"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// The policies.
const (
	PolicyNone   = "none"
	PolicyStatic = "static"
)

// Config is what a Manager is made from.
type Config struct {
	Policy   string
	Options  map[string]string
	Topology *machine.Topology
	// Reserved is what the node keeps of its CPUs, in thousandths; Named which ones, if that's said.
	Reserved int64
	Named    cpuset.CPUSet
	// Dir holds the state.
	Dir string
	// TopologyPolicy is that of the topology manager, Affinity what it has decided for a container.
	TopologyPolicy string
	Affinity       func(uid types.UID, container string) topology.Hint
	Metrics        *metrics.Metrics
	Logger         *slog.Logger
}

// Manager gives containers CPUs. It implements topology.Provider.
type Manager struct {
	cfg     Config
	changed chan struct{} // has a token after each change of the shared CPUs

	mu     sync.Mutex
	static *static // nil is the policy none
	state  *state
	set    map[string]cpuset.CPUSet // what running containers were told last, by ID
}

// New opens the state.
func New(cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, changed: make(chan struct{}, 1), set: map[string]cpuset.CPUSet{}}
	switch cfg.Policy {
	case PolicyNone:
		if len(cfg.Options) > 0 {
			return nil, fmt.Errorf("new none policy error: None policy: received unsupported options=%v", cfg.Options)
		}
	case PolicyStatic:
		if err := m.makeStatic(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("unknown policy: %q", cfg.Policy)
	}
	var err error
	if m.state, err = openState(cfg.Dir, cfg.Policy); err != nil {
		return nil, err
	}
	if m.static == nil {
		return m, nil
	}
	if err := m.static.begin(m.state); err != nil {
		return nil, fmt.Errorf("invalid state, please drain node and remove policy state file: %w", err)
	}
	cfg.Metrics.ShowAlignment(metrics.BoundaryCore, topology.ScopeContainer)
	cfg.Metrics.Aligned.WithLabelValues(topology.ScopeContainer, metrics.BoundaryUncore)
	m.count()
	return m, nil
}

func (m *Manager) makeStatic() error {
	o, err := parseOptions(m.cfg.Options)
	if err == nil {
		err = o.check(m.cfg.Topology, m.cfg.TopologyPolicy)
	}
	if err != nil {
		return fmt.Errorf("new static policy error: %w", err)
	}
	if m.cfg.Reserved <= 0 {
		return fmt.Errorf("[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero")
	}
	if m.static, err = newStatic(m.cfg.Topology, o, int((m.cfg.Reserved+999)/1000), m.cfg.Named); err != nil {
		return fmt.Errorf("new static policy error: %w", err)
	}
	m.cfg.Logger.Info("CPUs are given to containers", "reserved", m.static.reserved.String(), "cpus", m.cfg.Topology.All().String())
	return nil
}

// Static tells whether containers can get CPUs of their own.
func (m *Manager) Static() bool { return m.static != nil }

// Hints implements topology.Provider.
func (m *Manager) Hints(pod *corev1.Pod, c *corev1.Container) topology.Hints {
	if m.static == nil {
		return nil
	}
	return m.hints(pod, wants(pod, c), c)
}

// PodHints implements topology.Provider.
func (m *Manager) PodHints(pod *corev1.Pod) topology.Hints {
	if m.static == nil {
		return nil
	}
	count := topology.Peak(pod, func(c *corev1.Container) int { return wants(pod, c) })
	var all []*corev1.Container
	for c := range topology.Containers(pod) {
		all = append(all, c)
	}
	return m.hints(pod, count, all...)
}

// hints says where containers together could get a number of CPUs.
func (m *Manager) hints(pod *corev1.Pod, count int, containers ...*corev1.Container) topology.Hints {
	if count == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	own := cpuset.New()
	for _, c := range containers {
		set, had := m.state.own[pod.UID][c.Name]
		if had && set.Size() != wants(pod, c) {
			return topology.Hints{string(corev1.ResourceCPU): {}}
		}
		own = own.Union(set)
	}
	free, must := m.static.free(m.state), own
	switch {
	case own.Size() == count: // as after a restart
		free, must = own, cpuset.New()
	case m.static.reuseUID == pod.UID:
		must = must.Union(m.static.reuse)
	}
	return topology.Hints{string(corev1.ResourceCPU): m.static.hints(free, must, count)}
}

// Allocate implements topology.Provider.
func (m *Manager) Allocate(_ context.Context, pod *corev1.Pod, c *corev1.Container) error {
	if m.static == nil {
		return nil
	}
	count := wants(pod, c)
	if count == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cfg.Metrics.CPUPinned.Inc()
	_, had := m.state.own[pod.UID][c.Name]
	err := m.static.allocate(m.state, pod, c, count, m.cfg.Affinity(pod.UID, c.Name).Nodes)
	if err == nil && !had {
		err = m.state.save()
	}
	if err != nil {
		m.cfg.Metrics.CPUPinErrors.Inc()
		m.cfg.Metrics.AllocationErrors.WithLabelValues("cpu", "node").Inc()
		if m.static.options.fullCores {
			m.cfg.Metrics.Unaligned.WithLabelValues(topology.ScopeContainer, metrics.BoundaryCore).Inc()
		}
		return err
	}
	if m.static.options.fullCores {
		m.cfg.Metrics.Aligned.WithLabelValues(topology.ScopeContainer, metrics.BoundaryCore).Inc()
	}
	if !had {
		m.given(m.state.own[pod.UID][c.Name])
	}
	return nil
}

// given counts an allocation.
func (m *Manager) given(set cpuset.CPUSet) {
	m.cfg.Metrics.Allocations.WithLabelValues("cpu", "node").Inc()
	m.cfg.Metrics.Assignments.WithLabelValues("cpu", "node_exclusive").Inc()
	if m.static.uncoreAligned(set) {
		m.cfg.Metrics.Aligned.WithLabelValues(topology.ScopeContainer, metrics.BoundaryUncore).Inc()
	}
	m.count()
	m.tell()
}

// count brings the gauges up to date.
func (m *Manager) count() {
	exclusive := m.state.exclusive()
	m.cfg.Metrics.SharedMilliCPUs.Set(float64(m.static.free(m.state).Size() * 1000))
	m.cfg.Metrics.ExclusiveCPUs.Set(float64(exclusive.Size()))
	for _, node := range m.cfg.Topology.Units(m.cfg.Topology.All(), machine.NUMA) {
		n := m.cfg.Topology.Within(exclusive, machine.NUMA, node).Size()
		m.cfg.Metrics.ExclusiveByNUMA.WithLabelValues(strconv.Itoa(node)).Set(float64(n))
	}
}

func (m *Manager) tell() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Keep takes back what other pods have than some.
func (m *Manager) Keep(pods map[types.UID]*corev1.Pod) error {
	if m.static == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	released := false
	for uid, containers := range m.state.own {
		if pods[uid] != nil {
			continue
		}
		for name := range containers {
			m.state.release(uid, name)
		}
		released = true
	}
	if !released {
		return nil
	}
	m.count()
	m.tell()
	return m.state.save()
}

// Own returns the CPUs that a container has for itself.
func (m *Manager) Own(uid types.UID, container string) cpuset.CPUSet {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.own[uid][container]
}

// For returns the CPUs that a container may run on; none if that's not said.
func (m *Manager) For(uid types.UID, container string) cpuset.CPUSet {
	m.mu.Lock()
	defer m.mu.Unlock()
	if set, ok := m.state.own[uid][container]; ok {
		return set
	}
	return m.state.shared
}

// Allocatable returns the CPUs that containers can get for themselves.
func (m *Manager) Allocatable() cpuset.CPUSet {
	if m.static == nil {
		return cpuset.New()
	}
	return m.cfg.Topology.All().Difference(m.static.reserved)
}
