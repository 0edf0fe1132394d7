package kubelet

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"clipper.dev/clipper/internal/kubelet/configuration"
	"clipper.dev/clipper/internal/kubelet/eviction"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/resources"
	"clipper.dev/clipper/internal/kubelet/resources/memory"
	"clipper.dev/clipper/internal/kubelet/shutdown"
)

// parsed is what stands in the settings as text, and what follows from several of them.
type parsed struct {
	maxPods                      int
	kubeReserved, systemReserved corev1.ResourceList
	evictionHard                 map[eviction.Signal]eviction.Value
	thresholds                   []eviction.Threshold
	resources                    resources.Policies
	shutdownPeriods              []shutdown.Period
	logMaxSize                   int64
	seccompDir                   string
	crashWaits                   lifecycle.CrashWaits
}

// CheckSettings finds what is wrong in the text of complete settings, before anything is started.
func CheckSettings(s *kubeletconfig.KubeletConfiguration) error {
	if err := (&Config{Settings: s}).parse(); err != nil {
		return fmt.Errorf("kubelet configuration: %w", err)
	}
	return nil
}

// parse reads the settings.
func (c *Config) parse() (err error) {
	s, p := c.Settings, &c.parsed
	p.maxPods = int(s.MaxPods)
	if s.PodsPerCore > 0 {
		p.maxPods = min(p.maxPods, int(s.PodsPerCore)*runtime.NumCPU())
	}
	p.crashWaits.First, p.crashWaits.Longest = configuration.CrashWaits(s)
	p.seccompDir = filepath.Join(c.RootDir, "seccomp")
	if p.kubeReserved, err = parseReserved(s.KubeReserved); err != nil {
		return fmt.Errorf("kubeReserved (--kube-reserved): %w", err)
	}
	if p.systemReserved, err = parseReserved(s.SystemReserved); err != nil {
		return fmt.Errorf("systemReserved (--system-reserved): %w", err)
	}
	if err := p.parseEviction(s); err != nil {
		return err
	}
	size, err := resource.ParseQuantity(s.ContainerLogMaxSize)
	if err != nil || size.Sign() < 0 {
		return fmt.Errorf("containerLogMaxSize (--container-log-max-size) %q: write an amount of bytes, as 10Mi", s.ContainerLogMaxSize)
	}
	p.logMaxSize = size.Value()
	p.resources = resources.Policies{
		ExclusiveQuota:   configuration.ExclusiveQuota(s),
		CPUManagerPolicy: s.CPUManagerPolicy, CPUManagerPolicyOptions: s.CPUManagerPolicyOptions, CPUManagerReconcilePeriod: s.CPUManagerReconcilePeriod.Duration,
		ReservedSystemCPUs: s.ReservedSystemCPUs, MemoryManagerPolicy: s.MemoryManagerPolicy,
		TopologyManagerPolicy: s.TopologyManagerPolicy, TopologyManagerScope: s.TopologyManagerScope, TopologyManagerPolicyOptions: s.TopologyManagerPolicyOptions,
	}
	for _, r := range s.ReservedMemory {
		p.resources.ReservedMemory = append(p.resources.ReservedMemory, memory.Reservation{Node: int(r.NumaNode), Limits: r.Limits})
	}
	p.shutdownPeriods = shutdown.Periods(s.ShutdownGracePeriod.Duration, s.ShutdownGracePeriodCriticalPods.Duration)
	if len(s.ShutdownGracePeriodByPodPriority) > 0 {
		p.shutdownPeriods = nil
		for _, one := range s.ShutdownGracePeriodByPodPriority {
			p.shutdownPeriods = append(p.shutdownPeriods, shutdown.Period{Priority: one.Priority, Grace: time.Duration(one.ShutdownGracePeriodSeconds) * time.Second})
		}
	}
	return nil
}

// enforces tells whether the node bounds what some part of it uses: one of the values of enforceNodeAllocatable.
func (c *Config) enforces(what string) bool {
	return slices.Contains(c.Settings.EnforceNodeAllocatable, what)
}

func (p *parsed) parseEviction(s *kubeletconfig.KubeletConfiguration) (err error) {
	if p.evictionHard, err = eviction.ParseThresholds(s.EvictionHard); err != nil {
		return fmt.Errorf("evictionHard (--eviction-hard): %w", err)
	}
	soft, err := eviction.ParseThresholds(s.EvictionSoft)
	if err != nil {
		return fmt.Errorf("evictionSoft (--eviction-soft): %w", err)
	}
	reclaim, err := eviction.ParseReclaims(s.EvictionMinimumReclaim)
	if err != nil {
		return fmt.Errorf("evictionMinimumReclaim (--eviction-minimum-reclaim): %w", err)
	}
	graces, err := eviction.ParseGraces(s.EvictionSoftGracePeriod)
	if err != nil {
		return fmt.Errorf("evictionSoftGracePeriod (--eviction-soft-grace-period): %w", err)
	}
	for signal, value := range p.evictionHard {
		p.thresholds = append(p.thresholds, eviction.Threshold{Signal: signal, Value: value, Reclaim: reclaim[signal]})
	}
	if slices.Contains(s.EnforceNodeAllocatable, configuration.EnforcePods) {
		if value, ok := p.evictionHard[eviction.MemoryAvailable]; ok {
			p.thresholds = append(p.thresholds, eviction.Threshold{Signal: eviction.AllocatableMemoryAvailable, Value: value, Reclaim: reclaim[eviction.MemoryAvailable]})
		}
	}
	for signal, value := range soft {
		grace, ok := graces[signal]
		if !ok {
			return fmt.Errorf("evictionSoft (--eviction-soft): grace period must be specified for the soft eviction threshold %v", signal)
		}
		p.thresholds = append(p.thresholds, eviction.Threshold{Signal: signal, Value: value, Reclaim: reclaim[signal], Soft: true, Grace: grace})
	}
	slices.SortFunc(p.thresholds, func(a, b eviction.Threshold) int { return strings.Compare(string(a.Signal), string(b.Signal)) })
	return nil
}

// parseReserved reads what a node keeps.
func parseReserved(given map[string]string) (corev1.ResourceList, error) {
	out := corev1.ResourceList{}
	for name, value := range given {
		switch corev1.ResourceName(name) {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, "pid":
		default:
			return nil, fmt.Errorf("cannot reserve %q resource", name)
		}
		q, err := resource.ParseQuantity(value)
		if err != nil {
			return nil, fmt.Errorf("failed to parse quantity %q for %q resource: %w", value, name, err)
		}
		if q.Sign() < 0 {
			return nil, fmt.Errorf("resource quantity for %q cannot be negative: %v", name, value)
		}
		out[corev1.ResourceName(name)] = q
	}
	return out, nil
}
