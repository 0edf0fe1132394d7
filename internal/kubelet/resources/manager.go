package resources

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	podresourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"

	"clipper.dev/clipper/internal/kubelet/resources/cpu"
	"clipper.dev/clipper/internal/kubelet/resources/device"
	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/memory"
	"clipper.dev/clipper/internal/kubelet/resources/metrics"
	"clipper.dev/clipper/internal/kubelet/resources/podresources"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// Config is what a Manager is made from.
type Config struct {
	Policies
	// Root is the kubelet's directory.
	Root string
	// Sys is the kernel's /sys.
	Sys string
	// Reserved is what the node keeps from pods, with what eviction keeps free.
	Reserved corev1.ResourceList

	// Active returns the pods that hold resources or are about to, once all that the node has are known; false before.
	Active func() (map[types.UID]*corev1.Pod, bool)
	// Find returns a pod by its name, nil if there's none.
	Find func(namespace, name string) *corev1.Pod
	// Running tells whether a container runs, Containers lists all that do.
	Running    func(uid types.UID, container string) bool
	Containers func() []cpu.Running
	// SetCPUs has a running container run on some CPUs.
	SetCPUs func(ctx context.Context, id, cpus string) error
	// Dynamic lists what a container has by way of claims, for the PodResources API; nil is nothing.
	Dynamic func(pod *corev1.Pod, container *corev1.Container) []*podresourcesapi.DynamicResource
	// Changed is called when the node's capacity has changed, Sick when devices of pods have become healthy or unhealthy.
	Changed func()
	Sick    func([]types.UID)

	Registry prometheus.Registerer
	Logger   *slog.Logger
}

// Manager gives resources to pods. Admit is called for one pod at a time.
type Manager struct {
	cfg      Config
	topology *topology.Manager
	cpu      *cpu.Manager
	memory   *memory.Manager
	devices  *device.Manager
	api      *podresources.Server
}

// New looks at the machine if a policy asks for it, and reads what is known from former runs.
func New(cfg Config) (*Manager, error) {
	cfg.Policies = cfg.Policies.complete()
	m := &Manager{cfg: cfg}
	counted := metrics.New(cfg.Registry)
	layout := &machine.Topology{}
	var err error
	if cfg.place() {
		if layout, err = machine.Read(cfg.Sys); err != nil {
			return nil, fmt.Errorf("look at the machine's layout: %w", err)
		}
	}
	m.topology, err = topology.New(topology.Config{
		Policy: cfg.TopologyManagerPolicy, Scope: cfg.TopologyManagerScope, Options: cfg.TopologyManagerPolicyOptions,
		Nodes: layout.Nodes, Metrics: counted, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("open the topology manager: %w", err)
	}
	if err := m.openCPU(layout, counted); err != nil {
		return nil, fmt.Errorf("open the CPU manager: %w", err)
	}
	m.memory, err = memory.New(memory.Config{
		Policy: cfg.MemoryManagerPolicy, Nodes: layout.Nodes, Reserved: cfg.Reserved, ReservedBy: cfg.ReservedMemory, Dir: cfg.Root,
		Affinity: m.topology.Affinity, Metrics: counted, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("open the memory manager: %w", err)
	}
	m.devices = device.New(device.Config{
		Dir: filepath.Join(cfg.Root, "device-plugins"), Nodes: layout.NodeIDs(), Affinity: m.topology.Affinity, Running: cfg.Running,
		Changed: cfg.Changed, Sick: cfg.Sick, Metrics: counted, Logger: cfg.Logger,
	})
	m.topology.Add(m.devices)
	m.topology.Add(m.cpu)
	m.topology.Add(m.memory)
	m.api = podresources.New(podresources.Config{
		Socket: filepath.Join(cfg.Root, "pod-resources", "kubelet.sock"), Active: m.listActive, Find: cfg.Find, Dynamic: cfg.Dynamic,
		CPUs: m.cpu, Memory: m.memory, Devices: m.devices, Metrics: counted,
	})
	return m, nil
}

func (m *Manager) openCPU(layout *machine.Topology, counted *metrics.Metrics) error {
	named, err := m.cfg.Policies.Reserved()
	if err != nil {
		return err
	}
	if !named.IsSubsetOf(layout.All()) {
		return fmt.Errorf("reserved-cpus: %s is not a subset of online-cpus: %s", m.cfg.ReservedSystemCPUs, layout.All())
	}
	m.cpu, err = cpu.New(cpu.Config{
		Policy: m.cfg.CPUManagerPolicy, Options: m.cfg.CPUManagerPolicyOptions, Topology: layout, Reserved: m.cfg.Reserved.Cpu().MilliValue(), Named: named,
		Dir: m.cfg.Root, TopologyPolicy: m.topology.Policy(), Affinity: m.topology.Affinity, Metrics: counted, Logger: m.cfg.Logger,
	})
	return err
}

// Start lets device plugins register, until ctx ends.
func (m *Manager) Start(ctx context.Context) error { return m.devices.Start(ctx) }

// Run serves agents and keeps containers on their CPUs, until ctx ends. Start comes first.
func (m *Manager) Run(ctx context.Context) error {
	defer m.devices.Wait()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.api.Run(ctx) })
	g.Go(func() error {
		m.cpu.Follow(ctx, m.cfg.CPUManagerReconcilePeriod, m.cfg.Containers, m.cfg.SetCPUs)
		return nil
	})
	return g.Wait()
}

// Plugins takes in device plugins that register through the plugins' registry.
func (m *Manager) Plugins() *device.Manager { return m.devices }

// Admit allocates what a pod's containers ask for. It returns nil, or why the pod cannot run.
func (m *Manager) Admit(ctx context.Context, pod *corev1.Pod) *topology.Refusal {
	m.keep("")
	return m.topology.Admit(ctx, pod)
}

// Forget takes back what a pod has.
func (m *Manager) Forget(uid types.UID) { m.keep(uid) }

// keep takes back what pods have that don't run any more; one counts as such in any case.
func (m *Manager) keep(except types.UID) {
	if !m.cpu.Static() && !m.memory.Static() && m.topology.Policy() == topology.PolicyNone && m.devices.Idle() {
		return
	}
	active, known := m.cfg.Active()
	if !known {
		return
	}
	delete(active, except)
	m.topology.Keep(active)
	m.devices.Keep(active)
	if err := errors.Join(m.cpu.Keep(active), m.memory.Keep(active)); err != nil {
		m.cfg.Logger.Warn("what pods had is free, but not written down as such", "error", err)
	}
}

// Options returns what the runtime is told of a container's devices.
func (m *Manager) Options(ctx context.Context, pod *corev1.Pod, c *corev1.Container) (*device.Options, error) {
	return m.devices.Options(ctx, pod, c)
}

// Pin says in a container's description which CPUs and memory it may use. One that has CPUs for itself isn't throttled, but by ExclusiveQuota.
func (m *Manager) Pin(pod *corev1.Pod, container string, linux *runtimeapi.LinuxContainerResources) {
	if set := m.cpu.For(pod.UID, container); !set.IsEmpty() {
		linux.CpusetCpus = set.String()
	}
	linux.CpusetMems = m.memory.NodesOf(pod.UID, container)
	if linux.CpuQuota > 0 && !m.cfg.ExclusiveQuota && !m.cpu.Own(pod.UID, container).IsEmpty() {
		linux.CpuQuota = -1
	}
}

// Unthrottled tells whether a pod's CPU limit isn't enforced, because a container of it has CPUs for itself.
func (m *Manager) Unthrottled(pod *corev1.Pod) bool {
	if m.cfg.ExclusiveQuota || !m.cpu.Static() {
		return false
	}
	for c := range topology.Containers(pod) {
		if !m.cpu.Own(pod.UID, c.Name).IsEmpty() {
			return true
		}
	}
	return false
}

// Started notes that a container is about to start.
func (m *Manager) Started(pod *corev1.Pod, container string) {
	if err := m.memory.Started(pod, container); err != nil {
		m.cfg.Logger.Warn("memory of init containers is free, but not written down as such", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	}
}

// Capacity returns what plugins offer, and how much of it can be given; nil is nothing.
func (m *Manager) Capacity() (capacity, allocatable corev1.ResourceList) { return m.devices.Capacity() }

// Fresh tells that no plugin ever registered as far as is known, so that what a node's object tells of extended resources is outdated.
func (m *Manager) Fresh() bool { return m.devices.Fresh() }

// Allocatable adds what plugins offer to what a node can give to a pod.
func (m *Manager) Allocatable(pod *corev1.Pod, own corev1.ResourceList) corev1.ResourceList {
	_, more := m.devices.Capacity()
	if len(more) == 0 {
		return own
	}
	out := maps.Clone(own)
	maps.Copy(out, more)
	return m.devices.Cover(pod.UID, out)
}

// Health writes into a pod's status how its devices are.
func (m *Manager) Health(uid types.UID, status *corev1.PodStatus) { m.devices.Health(uid, status) }

// RefuseResize says why a guaranteed pod's CPUs or memory can't be changed while it runs, in a word for metrics and in a sentence; "" if they can.
func (m *Manager) RefuseResize(cpuChanges, memoryChanges bool) (detail, problem string) {
	switch {
	case cpuChanges && m.cpu.Static():
		return "guaranteed_pod_cpu_manager_static_policy", fmt.Sprintf("Resize is infeasible for Guaranteed Pods alongside CPU Manager policy %q", cpu.PolicyStatic)
	case memoryChanges && m.memory.Static():
		return "guaranteed_pod_memory_manager_static_policy", fmt.Sprintf("Resize is infeasible for Guaranteed Pods alongside Memory Manager policy %q", memory.PolicyStatic)
	}
	return "", ""
}

func (m *Manager) listActive() []*corev1.Pod {
	active, _ := m.cfg.Active()
	return slices.SortedFunc(maps.Values(active), func(a, b *corev1.Pod) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
}
