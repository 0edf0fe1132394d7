package proxy

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// serviceProxyName is the label of Services that another proxy takes care of.
const serviceProxyName = "service.kubernetes.io/service-proxy-name"

// Model knows the cluster's Services and EndpointSlices and what follows from them for one node.
// All methods may be called concurrently. It keeps what it needs of the objects and not the objects.
type Model struct {
	mu       sync.Mutex
	node     node
	local    map[netip.Addr]bool
	services map[types.NamespacedName]*service
	dirty    map[types.NamespacedName]struct{}
}

// service is what the model holds of one Service. It exists as long as the Service or one of its slices does.
type service struct {
	object *corev1.Service // nil while only slices are known
	slices map[string]*discoveryv1.EndpointSlice
	// ports is what the last Take returned.
	ports  map[Key]*ServicePort
	health *HealthCheck
}

// HealthCheck is what a Service's health check node port has to answer.
type HealthCheck struct {
	Service        types.NamespacedName
	Port           uint16
	LocalEndpoints int
}

// NewModel returns an empty model for a node. Services without a selector whose cluster address is one of
// nodeLocal are served by the node itself at that address and have no ports here.
func NewModel(nodeName string, nodeLocal ...netip.Addr) *Model {
	m := &Model{
		node:     node{name: nodeName},
		local:    make(map[netip.Addr]bool),
		services: make(map[types.NamespacedName]*service),
		dirty:    make(map[types.NamespacedName]struct{}),
	}
	for _, a := range nodeLocal {
		m.local[a] = true
	}
	return m
}

// SetNodeLabels tells the node's labels, of which the zone matters.
func (m *Model) SetNodeLabels(labels map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if zone := labels[corev1.LabelTopologyZone]; zone != m.node.zone {
		m.node.zone = zone
		for name := range m.services {
			m.dirty[name] = struct{}{}
		}
	}
}

// SetService adds a Service or replaces it.
func (m *Model) SetService(s *corev1.Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	m.service(name).object = trimService(s)
	m.dirty[name] = struct{}{}
}

// DeleteService removes a Service.
func (m *Model) DeleteService(namespace, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := types.NamespacedName{Namespace: namespace, Name: name}
	m.service(key).object = nil
	m.dirty[key] = struct{}{}
}

// SetSlice adds an EndpointSlice or replaces it.
func (m *Model) SetSlice(s *discoveryv1.EndpointSlice) {
	owner, ok := s.Labels[discoveryv1.LabelServiceName]
	if !ok || s.AddressType == discoveryv1.AddressTypeFQDN {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := types.NamespacedName{Namespace: s.Namespace, Name: owner}
	m.service(key).slices[s.Name] = trimSlice(s)
	m.dirty[key] = struct{}{}
}

// DeleteSlice removes an EndpointSlice of the Service.
func (m *Model) DeleteSlice(namespace, service, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := types.NamespacedName{Namespace: namespace, Name: service}
	delete(m.service(key).slices, name)
	m.dirty[key] = struct{}{}
}

func (m *Model) service(key types.NamespacedName) *service {
	s := m.services[key]
	if s == nil {
		s = &service{slices: make(map[string]*discoveryv1.EndpointSlice), ports: make(map[Key]*ServicePort)}
		m.services[key] = s
	}
	return s
}

// Take returns what changed since the last call, in a fixed order. Its cost depends on what changed alone.
func (m *Model) Take() []Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	var changes []Change
	for name := range m.dirty {
		s := m.services[name]
		ports := m.node.ports(name, s, m.local)
		for key, old := range s.ports {
			if ports[key] == nil {
				changes = append(changes, Change{Old: old})
			}
		}
		for key, p := range ports {
			if old := s.ports[key]; !p.Equal(old) {
				changes = append(changes, Change{Old: old, New: p})
			}
		}
		s.ports, s.health = ports, m.node.healthCheck(name, s)
		if s.object == nil && len(s.slices) == 0 {
			delete(m.services, name)
		}
	}
	clear(m.dirty)
	slices.SortFunc(changes, func(a, b Change) int { return compareKeys(a.Key(), b.Key()) })
	return changes
}

// HealthChecks returns what the health check node ports have to answer, as of the last Take.
func (m *Model) HealthChecks() []HealthCheck {
	m.mu.Lock()
	defer m.mu.Unlock()
	var checks []HealthCheck
	for _, s := range m.services {
		if s.health != nil {
			checks = append(checks, *s.health)
		}
	}
	slices.SortFunc(checks, func(a, b HealthCheck) int { return cmp.Compare(a.Port, b.Port) })
	return checks
}

// withoutLocal counts, as of the last Take and by family, the ports that drop traffic of the cluster, and that of the world, as no endpoint is on the node.
func (m *Model) withoutLocal() (internal, external [2]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.services {
		for key, p := range s.ports {
			i := 0
			if key.IPv6 {
				i = 1
			}
			if p.Internal.Otherwise == Drop {
				internal[i]++
			}
			if p.External.Otherwise == Drop {
				external[i]++
			}
		}
	}
	return internal, external
}

func compareKeys(a, b Key) int {
	family := func(k Key) int {
		if k.IPv6 {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Name, b.Service.Name),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(family(a), family(b)))
}

// trimService returns a Service with only what the model looks at. The rest, most of all the managed fields, would
// otherwise stay in memory for it.
func trimService(s *corev1.Service) *corev1.Service {
	t := &corev1.Service{Spec: s.Spec}
	t.Namespace, t.Name = s.Namespace, s.Name
	if other, ok := s.Labels[serviceProxyName]; ok {
		t.Labels = map[string]string{serviceProxyName: other}
	}
	t.Status.LoadBalancer = s.Status.LoadBalancer
	return t
}

// trimSlice does the same for a slice.
func trimSlice(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	t := &discoveryv1.EndpointSlice{AddressType: s.AddressType, Ports: s.Ports, Endpoints: make([]discoveryv1.Endpoint, len(s.Endpoints))}
	t.Namespace, t.Name = s.Namespace, s.Name
	for i, e := range s.Endpoints {
		t.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions, NodeName: e.NodeName, Hints: e.Hints}
	}
	return t
}
