package device

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// Hints implements topology.Provider.
func (m *Manager) Hints(pod *corev1.Pod, c *corev1.Container) topology.Hints {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := topology.Hints{}
	for _, r := range m.requests(pod, c) {
		has := m.grants[owner{pod.UID, c.Name}][r.resource].devices.ids()
		out[r.resource] = m.hints(r, has, m.reusable(pod, r.resource))
	}
	return out
}

// PodHints implements topology.Provider.
func (m *Manager) PodHints(pod *corev1.Pod) topology.Hints {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[string]bool{}
	for c := range topology.Containers(pod) {
		for _, r := range m.requests(pod, c) {
			counts[r.resource] = true
		}
	}
	out := topology.Hints{}
	for name := range counts {
		count := topology.Peak(pod, func(c *corev1.Container) int {
			q := c.Resources.Limits[corev1.ResourceName(name)]
			return int(q.Value())
		})
		has := sets.New[string]()
		for c := range topology.Containers(pod) {
			has = has.Union(m.grants[owner{pod.UID, c.Name}][name].devices.ids())
		}
		out[name] = m.hints(request{name, count}, has, sets.New[string]())
	}
	return out
}

// hints says where a number of devices could be had; has are those that were given already, reusable those that must be among them. The lock is held.
func (m *Manager) hints(r request, has, reusable sets.Set[string]) []topology.Hint {
	k := m.kinds[r.resource]
	if k == nil || !k.placed() {
		return nil
	}
	free := k.healthy().Difference(m.grants.used(r.resource))
	if has.Len() > 0 { // as after a restart
		if has.Len() != r.count {
			return []topology.Hint{}
		}
		free, reusable = has, sets.New[string]()
	}
	if free.Union(reusable).Len() < r.count {
		return []topology.Hint{}
	}
	nodes := m.nodesOf(k)
	fewest := len(nodes)
	hints := []topology.Hint{}
	all := sets.KeySet(k.devices)
	for mask := range topology.Masks(nodes) {
		if k.count(all, mask) >= r.count {
			fewest = min(fewest, mask.Count())
		}
		inside := k.count(reusable, mask)
		outside := reusable.Len() - inside - k.homeless(reusable)
		if outside == 0 && inside+k.count(free, mask) >= r.count {
			hints = append(hints, topology.Hint{Nodes: mask})
		}
	}
	for i := range hints {
		hints[i].Preferred = hints[i].Nodes.Count() == fewest
	}
	return hints
}

// nodesOf lists the machine's NUMA nodes that devices are near.
func (m *Manager) nodesOf(k *kind) []int {
	var near topology.Mask
	for id := range k.devices {
		near |= k.near(id)
	}
	nodes := slices.DeleteFunc(slices.Clone(m.cfg.Nodes), func(n int) bool { return !near.Has(n) })
	if len(nodes) == 0 {
		return m.cfg.Nodes
	}
	return nodes
}

// homeless counts those of some devices that are near no node.
func (k *kind) homeless(ids sets.Set[string]) int {
	n := 0
	for id := range ids {
		if k.near(id) == 0 {
			n++
		}
	}
	return n
}
