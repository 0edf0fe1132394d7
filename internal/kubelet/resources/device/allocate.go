package device

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// Allocate implements topology.Provider.
func (m *Manager) Allocate(ctx context.Context, pod *corev1.Pod, c *corev1.Container) error {
	m.mu.Lock()
	wanted := m.requests(pod, c)
	m.mu.Unlock()
	if len(wanted) == 0 {
		return nil
	}
	m.allocating.Lock()
	defer m.allocating.Unlock()
	given := false
	for _, r := range wanted {
		got, err := m.allocate(ctx, pod, c.Name, r)
		if err != nil {
			return err
		}
		given = given || got
	}
	if !given {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.save(); err != nil {
		return fmt.Errorf("failed to write checkpoint file %q: %w", stateFile, err)
	}
	return nil
}

// allocate gives a container devices of one resource; false when there's nothing to do.
func (m *Manager) allocate(ctx context.Context, pod *corev1.Pod, container string, r request) (bool, error) {
	o := owner{pod.UID, container}
	need, err := m.need(o, r)
	if err != nil || !need {
		return false, err
	}
	devices, err := m.choose(ctx, pod, container, r)
	if err != nil {
		return false, err
	}
	p, err := m.pluginOf(r.resource)
	if err != nil {
		return false, err
	}
	begun := time.Now()
	answer, err := p.allocate(ctx, sets.List(devices))
	m.cfg.Metrics.DeviceAllocation.WithLabelValues(r.resource).Observe(time.Since(begun).Seconds())
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.kinds[r.resource]
	if k == nil {
		return false, fmt.Errorf("unknown Device Plugin %s", r.resource)
	}
	m.grants.set(o, r.resource, grant{k.byNode(devices), answer})
	return true, nil
}

// need tells whether a container has yet to get devices, or why it can't.
func (m *Manager) need(o owner, r request) (bool, error) {
	running := m.cfg.Running(o.uid, o.container)
	m.mu.Lock()
	defer m.mu.Unlock()
	given, had := m.grants[o][r.resource]
	has := given.devices.ids()
	if had && has.Len() != r.count {
		return false, fmt.Errorf("%v changed request for resource %q from %d to %d", o, r.resource, has.Len(), r.count)
	}
	if running { // It has what it needs, whether its plugin is there or not.
		return false, nil
	}
	k := m.kinds[r.resource]
	if k == nil {
		return false, fmt.Errorf("cannot allocate unregistered device %s", r.resource)
	}
	healthy := k.healthy()
	if healthy.Len() == 0 {
		return false, fmt.Errorf("no healthy devices present; cannot allocate unhealthy devices %s", r.resource)
	}
	if !healthy.IsSuperset(has) {
		return false, fmt.Errorf("previously allocated devices are no longer healthy; cannot allocate unhealthy devices %s", r.resource)
	}
	return !had, nil
}

// pluginOf returns the plugin of a resource.
func (m *Manager) pluginOf(resource string) (*plugin, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.kinds[resource]
	if k == nil {
		return nil, fmt.Errorf("endpoint not found in cache for a registered resource: %s", resource)
	}
	if k.plugin == nil {
		return nil, fmt.Errorf("endpoint %v has been stopped", resource)
	}
	return k.plugin, nil
}

// selection is devices to choose from.
type selection struct {
	need                       int
	chosen                     sets.Set[string]
	aligned, elsewhere, anyway []string // near the affinity's nodes, near others, near none
}

// take chooses from a list until there are enough.
func (s *selection) take(ids []string) (done bool) {
	for _, id := range ids {
		if s.need == 0 {
			break
		}
		if !s.chosen.Has(id) {
			s.chosen.Insert(id)
			s.need--
		}
	}
	return s.need == 0
}

// choose finds devices for a container: first what init containers had, then devices near the affinity's nodes, then others. Where there's a choice the
// plugin has a say.
func (m *Manager) choose(ctx context.Context, pod *corev1.Pod, container string, r request) (sets.Set[string], error) {
	affinity := m.cfg.Affinity(pod.UID, container).Nodes
	m.mu.Lock()
	k := m.kinds[r.resource]
	if k == nil {
		m.mu.Unlock()
		return nil, fmt.Errorf("cannot allocate unregistered device %s", r.resource)
	}
	healthy := k.healthy()
	s := &selection{need: r.count, chosen: sets.New[string]()}
	if s.take(sets.List(m.reusable(pod, r.resource).Intersection(healthy))) {
		m.mu.Unlock()
		return s.chosen, nil
	}
	available := healthy.Difference(m.grants.used(r.resource))
	m.sort(s, k, available, affinity)
	m.mu.Unlock()
	if available.Len() < s.need {
		return nil, fmt.Errorf("requested number of devices unavailable for %s. Requested: %d, Available: %d", r.resource, s.need, available.Len())
	}
	from := available
	if s.need < len(s.aligned) {
		from = sets.New(s.aligned...)
	} else if s.take(s.aligned) {
		return s.chosen, nil
	}
	p, err := m.pluginOf(r.resource)
	if err != nil {
		return nil, err
	}
	preferred, err := p.prefer(ctx, from.Union(s.chosen), s.chosen, r.count)
	if err != nil {
		return nil, err
	}
	if s.take(sets.List(preferred.Intersection(from))) || s.take(s.aligned) || s.take(s.elsewhere) || s.take(s.anyway) {
		return s.chosen, nil
	}
	return nil, fmt.Errorf("unexpectedly allocated less resources than required. Requested: %d, Got: %d", r.count, r.count-s.need)
}

// reusable returns the devices of a pod's init containers that no other container of it has taken over; the lock is held.
func (m *Manager) reusable(pod *corev1.Pod, resource string) sets.Set[string] {
	free, kept := sets.New[string](), sets.New[string]()
	for c := range topology.Containers(pod) {
		devices := m.grants[owner{pod.UID, c.Name}][resource].devices.ids()
		if topology.EndsFirst(pod, c.Name) {
			free = free.Union(devices)
		} else {
			kept = kept.Union(devices)
		}
	}
	return free.Difference(kept)
}

// sort divides devices by their nearness to nodes; devices of nodes that have few come first. The lock is held.
func (m *Manager) sort(s *selection, k *kind, available sets.Set[string], affinity topology.Mask) {
	if affinity == 0 || !k.placed() {
		s.anyway = sets.List(available)
		return
	}
	by := k.byNode(available)
	few := func(id string) int {
		least := len(available) + 1
		for node, ids := range by {
			if k.near(id).Has(int(node)) && (affinity.Has(int(node)) || k.near(id)&affinity == 0) {
				least = min(least, len(ids))
			}
		}
		return least
	}
	order := slices.SortedFunc(maps.Keys(available), func(a, b string) int {
		return cmp.Or(cmp.Compare(few(a), few(b)), cmp.Compare(a, b))
	})
	for _, id := range order {
		switch near := k.near(id); {
		case near == 0:
			s.anyway = append(s.anyway, id)
		case near&affinity != 0:
			s.aligned = append(s.aligned, id)
		default:
			s.elsewhere = append(s.elsewhere, id)
		}
	}
}
