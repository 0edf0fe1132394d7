package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Zone knows the names of one cluster. All methods may be called concurrently. It keeps what it
// needs of the objects and not the objects.
type Zone struct {
	domain  string // fully qualified, as "cluster.local."
	servers []netip.Addr

	mu         sync.RWMutex
	ready      bool
	services   map[types.NamespacedName]*service
	endpoints  map[types.NamespacedName]map[string]*slice // by Service, then by name of the slice
	namespaces map[string]int                             // how many Services each has
	clusterIPs map[netip.Addr]types.NamespacedName
	addresses  map[netip.Addr][]types.NamespacedName // Services that an endpoint's address belongs to, once for each slice
}

type service struct {
	clusterIPs   []netip.Addr // empty for a headless or external Service
	externalName string
	allEndpoints bool // also those that aren't ready
	ports        []port
}

type port struct {
	name, protocol string // in lower case
	number         uint16
}

type slice struct {
	ports     []port
	endpoints []endpoint
}

type endpoint struct {
	address  netip.Addr
	hostname string
	ready    bool
}

// name is the label that stands for the endpoint below its Service.
func (e endpoint) name() string {
	if e.hostname != "" {
		return e.hostname
	}
	if e.address.Is6() {
		return strings.ReplaceAll(e.address.String(), ":", "-")
	}
	return strings.ReplaceAll(e.address.String(), ".", "-")
}

// NewZone returns a zone without names. Servers are the addresses of the zone's name server.
func NewZone(domain string, servers []netip.Addr) *Zone {
	return &Zone{
		domain:     strings.ToLower(dns.Fqdn(domain)),
		servers:    servers,
		services:   make(map[types.NamespacedName]*service),
		endpoints:  make(map[types.NamespacedName]map[string]*slice),
		namespaces: make(map[string]int),
		clusterIPs: make(map[netip.Addr]types.NamespacedName),
		addresses:  make(map[netip.Addr][]types.NamespacedName),
	}
}

// SetReady says that all names are known. Before that, questions fail rather than be denied.
func (z *Zone) SetReady() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.ready = true
}

// Ready tells whether SetReady was called.
func (z *Zone) Ready() bool {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.ready
}

// SetService adds a Service or replaces it.
func (z *Zone) SetService(s *corev1.Service) {
	name := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	svc := &service{allEndpoints: s.Spec.PublishNotReadyAddresses}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		svc.externalName = dns.Fqdn(s.Spec.ExternalName)
	}
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil {
			svc.clusterIPs = append(svc.clusterIPs, a.Unmap())
		}
	}
	for _, p := range s.Spec.Ports {
		svc.ports = append(svc.ports, port{strings.ToLower(p.Name), protocol(p.Protocol), uint16(p.Port)})
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.forgetService(name)
	z.services[name] = svc
	z.namespaces[name.Namespace]++
	for _, a := range svc.clusterIPs {
		z.clusterIPs[a] = name
	}
}

// DeleteService removes a Service.
func (z *Zone) DeleteService(namespace, name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.forgetService(types.NamespacedName{Namespace: namespace, Name: name})
}

func (z *Zone) forgetService(name types.NamespacedName) {
	old := z.services[name]
	if old == nil {
		return
	}
	delete(z.services, name)
	if z.namespaces[name.Namespace]--; z.namespaces[name.Namespace] == 0 {
		delete(z.namespaces, name.Namespace)
	}
	for _, a := range old.clusterIPs {
		if z.clusterIPs[a] == name {
			delete(z.clusterIPs, a)
		}
	}
}

// SetSlice adds an EndpointSlice or replaces it.
func (z *Zone) SetSlice(s *discoveryv1.EndpointSlice) {
	owner, ok := s.Labels[discoveryv1.LabelServiceName]
	if !ok {
		return
	}
	sl := &slice{}
	for _, p := range s.Ports {
		if p.Port != nil {
			sl.ports = append(sl.ports, port{strings.ToLower(deref(p.Name, "")), protocol(deref(p.Protocol, "")), uint16(*p.Port)})
		}
	}
	for _, e := range s.Endpoints {
		for _, address := range e.Addresses {
			if a, err := netip.ParseAddr(address); err == nil {
				sl.endpoints = append(sl.endpoints, endpoint{a.Unmap(), strings.ToLower(deref(e.Hostname, "")), deref(e.Conditions.Ready, true)})
			}
		}
	}
	service := types.NamespacedName{Namespace: s.Namespace, Name: owner}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.forgetSlice(service, s.Name)
	if z.endpoints[service] == nil {
		z.endpoints[service] = make(map[string]*slice)
	}
	z.endpoints[service][s.Name] = sl
	for _, e := range sl.endpoints {
		z.addresses[e.address] = append(z.addresses[e.address], service)
	}
}

// DeleteSlice removes an EndpointSlice of the Service.
func (z *Zone) DeleteSlice(namespace, service, name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.forgetSlice(types.NamespacedName{Namespace: namespace, Name: service}, name)
}

func (z *Zone) forgetSlice(service types.NamespacedName, name string) {
	old := z.endpoints[service][name]
	if old == nil {
		return
	}
	delete(z.endpoints[service], name)
	if len(z.endpoints[service]) == 0 {
		delete(z.endpoints, service)
	}
	for _, e := range old.endpoints {
		list := z.addresses[e.address]
		if i := slices.Index(list, service); i >= 0 {
			list = slices.Delete(slices.Clone(list), i, i+1)
		}
		if z.addresses[e.address] = list; len(list) == 0 {
			delete(z.addresses, e.address)
		}
	}
}

func protocol(p corev1.Protocol) string {
	if p == "" {
		return "tcp"
	}
	return strings.ToLower(string(p))
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
