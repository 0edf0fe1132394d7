package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/metrics"
)

// The scopes.
const (
	ScopeContainer = "container"
	ScopePod       = "pod"
)

// Provider owns a resource that has a place in the machine. Its methods are called for one pod at a time.
type Provider interface {
	// Hints says where a container could be served, PodHints where a pod as a whole.
	Hints(pod *corev1.Pod, c *corev1.Container) Hints
	PodHints(pod *corev1.Pod) Hints
	// Allocate gives a container what it asks for. What has been given before stays.
	Allocate(ctx context.Context, pod *corev1.Pod, c *corev1.Container) error
}

// Refusal is an error with a reason of its own for pods that cannot run.
type Refusal struct {
	Reason, Message string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// Reasons of refusals.
const (
	reasonAffinity   = "TopologyAffinityError"
	reasonUnexpected = "UnexpectedAdmissionError"
)

// refusal finds the reason in an error.
func refusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return &Refusal{reasonUnexpected, fmt.Sprintf("Allocate failed due to %v, which is unexpected", err)}
}

// Config is what a Manager is made from.
type Config struct {
	Policy, Scope string
	Options       map[string]string
	Nodes         []machine.Node
	Metrics       *metrics.Metrics
	Logger        *slog.Logger
}

// Manager admits pods.
type Manager struct {
	policy    *policy // nil is none
	scope     string
	providers []Provider
	metrics   *metrics.Metrics

	mu       sync.Mutex
	affinity map[types.UID]map[string]Hint
}

// New returns a manager without providers.
func New(cfg Config) (*Manager, error) {
	m := &Manager{scope: cfg.Scope, metrics: cfg.Metrics, affinity: map[types.UID]map[string]Hint{}}
	if cfg.Policy == PolicyNone {
		return m, nil
	}
	o, err := parseOptions(cfg.Options, cfg.Logger)
	if err != nil {
		return nil, err
	}
	if m.policy, err = newPolicy(cfg.Policy, o, cfg.Nodes); err != nil {
		return nil, err
	}
	if cfg.Scope != ScopeContainer && cfg.Scope != ScopePod {
		return nil, fmt.Errorf("unknown scope: %q", cfg.Scope)
	}
	m.metrics.ShowAlignment(metrics.BoundaryNUMA, ScopeContainer, ScopePod)
	return m, nil
}

// Add has a provider be asked, after those before it.
func (m *Manager) Add(p Provider) { m.providers = append(m.providers, p) }

// Policy returns the policy's name.
func (m *Manager) Policy() string {
	if m.policy == nil {
		return PolicyNone
	}
	return m.policy.name
}

// Affinity returns the nodes that a container shall be served from.
func (m *Manager) Affinity(uid types.UID, container string) Hint {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.affinity[uid][container]
}

// Keep forgets all pods but some.
func (m *Manager) Keep(pods map[types.UID]*corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid := range m.affinity {
		if pods[uid] == nil {
			delete(m.affinity, uid)
		}
	}
}

// Admit has the providers allocate what a pod asks for; it returns nil, or why the pod cannot run.
func (m *Manager) Admit(ctx context.Context, pod *corev1.Pod) *Refusal {
	m.metrics.TopologyRequests.Inc()
	begun := time.Now()
	defer func() { m.metrics.TopologyDuration.Observe(float64(time.Since(begun).Milliseconds())) }()
	if m.policy == nil {
		for c := range Containers(pod) {
			if err := m.allocate(ctx, pod, c); err != nil {
				return refusal(err)
			}
		}
		return nil
	}
	admit := m.admitContainers
	if m.scope == ScopePod {
		admit = m.admitPod
	}
	err := admit(ctx, pod)
	if err == nil {
		return nil
	}
	m.metrics.TopologyErrors.Inc()
	return refusal(err)
}

func (m *Manager) admitContainers(ctx context.Context, pod *corev1.Pod) error {
	for c := range Containers(pod) {
		hint, err := m.decide(func(p Provider) Hints { return p.Hints(pod, c) })
		if err != nil {
			return err
		}
		m.remember(pod.UID, c.Name, hint)
		if err := m.allocate(ctx, pod, c); err != nil {
			return err
		}
		m.aligned()
	}
	return nil
}

func (m *Manager) admitPod(ctx context.Context, pod *corev1.Pod) error {
	hint, err := m.decide(func(p Provider) Hints { return p.PodHints(pod) })
	if err != nil {
		return err
	}
	for c := range Containers(pod) {
		m.remember(pod.UID, c.Name, hint)
		if err := m.allocate(ctx, pod, c); err != nil {
			return err
		}
	}
	m.aligned()
	return nil
}

// decide asks all providers and has the policy decide.
func (m *Manager) decide(ask func(Provider) Hints) (Hint, error) {
	hints := make([]Hints, len(m.providers))
	for i, p := range m.providers {
		hints[i] = ask(p)
	}
	hint, admit := m.policy.decide(hints)
	if admit {
		return hint, nil
	}
	if m.policy.guaranteesAlignment() {
		m.metrics.Unaligned.WithLabelValues(m.scope, metrics.BoundaryNUMA).Inc()
	}
	return hint, &Refusal{reasonAffinity, "Resources cannot be allocated with Topology locality"}
}

// aligned counts what the policy has guaranteed.
func (m *Manager) aligned() {
	if m.policy.guaranteesAlignment() {
		m.metrics.Aligned.WithLabelValues(m.scope, metrics.BoundaryNUMA).Inc()
	}
}

func (m *Manager) allocate(ctx context.Context, pod *corev1.Pod, c *corev1.Container) error {
	for _, p := range m.providers {
		if err := p.Allocate(ctx, pod, c); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) remember(uid types.UID, container string, hint Hint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.affinity[uid] == nil {
		m.affinity[uid] = map[string]Hint{}
	}
	m.affinity[uid][container] = hint
}
