package proxy

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// node is for whom ports are planned.
type node struct {
	name string
	zone string
}

// ports returns what a Service means for the node: nothing while the Service is unknown, headless, external,
// taken care of by another proxy, or served by the node itself.
func (n node) ports(name types.NamespacedName, s *service, nodeLocal map[netip.Addr]bool) map[Key]*ServicePort {
	svc := s.object
	ports := make(map[Key]*ServicePort)
	if !proxied(svc) {
		return ports
	}
	ranges := prefixes(svc.Spec.LoadBalancerSourceRanges)
	for _, ipv6 := range []bool{false, true} {
		clusterIPs := addresses(clusterIPs(svc), ipv6)
		if len(clusterIPs) == 0 || len(svc.Spec.Selector) == 0 && nodeLocal[clusterIPs[0]] {
			continue
		}
		for i := range svc.Spec.Ports {
			port := &svc.Spec.Ports[i]
			p := &ServicePort{
				Key:             Key{Service: name, Port: port.Name, Protocol: protocol(port.Protocol), IPv6: ipv6},
				Port:            uint16(port.Port),
				NodePort:        uint16(port.NodePort),
				ClusterIPs:      clusterIPs,
				ExternalIPs:     addresses(svc.Spec.ExternalIPs, ipv6),
				LoadBalancerIPs: addresses(loadBalancerIPs(svc), ipv6),
				SourceRanges:    slices.DeleteFunc(slices.Clone(ranges), func(r netip.Prefix) bool { return r.Addr().Is6() != ipv6 }),
				AffinitySeconds: affinity(svc),
			}
			n.chooseBackends(p, svc, n.candidates(s, p.Key))
			ports[p.Key] = p
		}
	}
	return ports
}

func proxied(svc *corev1.Service) bool {
	if svc == nil || svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return false
	}
	_, other := svc.Labels[serviceProxyName]
	return !other
}

// chooseBackends applies the traffic policies.
func (n node) chooseBackends(p *ServicePort, svc *corev1.Service, all []candidate) {
	cluster := n.preferred(all)
	local := usable(slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return !c.local }))
	p.Cluster = Backends{Endpoints: endpoints(cluster)}
	onlyLocal := Backends{Endpoints: endpoints(local)}
	if len(local) == 0 && len(cluster) > 0 {
		onlyLocal.Otherwise = Drop
	}
	p.Internal = p.Cluster
	if policy := svc.Spec.InternalTrafficPolicy; policy != nil && *policy == corev1.ServiceInternalTrafficPolicyLocal {
		p.Internal = onlyLocal
	}
	if !p.IsExternal() {
		return
	}
	p.External = p.Cluster
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		p.External, p.ExternalLocal = onlyLocal, true
	}
}

// candidate is an endpoint with what decides about its use.
type candidate struct {
	addr                        netip.AddrPort
	local                       bool
	ready, serving, terminating bool
	hints                       *discoveryv1.EndpointHints
}

// candidates returns the endpoints for a port. An address that is in two slices for a moment counts once.
func (n node) candidates(s *service, key Key) []candidate {
	byAddr := make(map[netip.AddrPort]candidate)
	for _, slice := range s.slices {
		if (slice.AddressType == discoveryv1.AddressTypeIPv6) != key.IPv6 {
			continue
		}
		for _, port := range slice.Ports {
			if port.Port == nil || deref(port.Name, "") != key.Port || deref(port.Protocol, corev1.ProtocolTCP) != key.Protocol {
				continue
			}
			for i := range slice.Endpoints {
				c, ok := n.candidate(&slice.Endpoints[i], uint16(*port.Port))
				if !ok {
					continue
				}
				if other, twice := byAddr[c.addr]; !twice || c.ready && !other.ready {
					byAddr[c.addr] = c
				}
			}
		}
	}
	list := make([]candidate, 0, len(byAddr))
	for _, c := range byAddr {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b candidate) int { return a.addr.Compare(b.addr) })
	return list
}

func (n node) candidate(e *discoveryv1.Endpoint, port uint16) (candidate, bool) {
	if len(e.Addresses) == 0 {
		return candidate{}, false
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return candidate{}, false
	}
	c := candidate{addr: netip.AddrPortFrom(a.Unmap(), port), hints: e.Hints, local: deref(e.NodeName, "") == n.name}
	c.ready = deref(e.Conditions.Ready, true)
	c.serving = deref(e.Conditions.Serving, c.ready)
	c.terminating = deref(e.Conditions.Terminating, false)
	return c, true
}

// usable returns the ready ones or, if there are none, those that terminate but still serve.
func usable(all []candidate) []candidate {
	var ready, leaving []candidate
	for _, c := range all {
		switch {
		case c.ready:
			ready = append(ready, c)
		case c.serving && c.terminating:
			leaving = append(leaving, c)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return leaving
}

// preferred returns the usable endpoints that topology hints give to this node or, if not every endpoint
// has a hint or none is for this node, its zone or all of them.
func (n node) preferred(all []candidate) []candidate {
	list := usable(all)
	if len(list) == 0 || !list[0].ready {
		return list
	}
	byNode, ok := hinted(list, func(h *discoveryv1.EndpointHints) (any, mine bool) {
		return len(h.ForNodes) > 0, slices.ContainsFunc(h.ForNodes, func(f discoveryv1.ForNode) bool { return f.Name == n.name })
	})
	if ok {
		return byNode
	}
	byZone, ok := hinted(list, func(h *discoveryv1.EndpointHints) (any, mine bool) {
		return len(h.ForZones) > 0, slices.ContainsFunc(h.ForZones, func(f discoveryv1.ForZone) bool { return f.Name == n.zone })
	})
	if ok && n.zone != "" {
		return byZone
	}
	return list
}

// hinted returns the endpoints with a hint that is mine; false if there is none or an endpoint lacks any hint.
func hinted(list []candidate, look func(*discoveryv1.EndpointHints) (any, mine bool)) ([]candidate, bool) {
	var chosen []candidate
	for _, c := range list {
		if c.hints == nil {
			return nil, false
		}
		has, mine := look(c.hints)
		if !has {
			return nil, false
		}
		if mine {
			chosen = append(chosen, c)
		}
	}
	return chosen, len(chosen) > 0
}

// healthCheck returns what the Service's health check port answers, or nil if it has none.
func (n node) healthCheck(name types.NamespacedName, s *service) *HealthCheck {
	svc := s.object
	if !proxied(svc) || svc.Spec.HealthCheckNodePort == 0 ||
		svc.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return nil
	}
	primaryIPv6 := strings.Contains(svc.Spec.ClusterIP, ":")
	here := make(map[string]struct{})
	for _, slice := range s.slices {
		if (slice.AddressType == discoveryv1.AddressTypeIPv6) != primaryIPv6 {
			continue
		}
		for i := range slice.Endpoints {
			if c, ok := n.candidate(&slice.Endpoints[i], 0); ok && c.local && c.ready {
				here[c.addr.Addr().String()] = struct{}{}
			}
		}
	}
	return &HealthCheck{Service: name, Port: uint16(svc.Spec.HealthCheckNodePort), LocalEndpoints: len(here)}
}

func endpoints(list []candidate) []Endpoint {
	var out []Endpoint
	for _, c := range list {
		out = append(out, Endpoint{AddrPort: c.addr, Local: c.local})
	}
	return out
}

func clusterIPs(svc *corev1.Service) []string {
	if len(svc.Spec.ClusterIPs) > 0 {
		return svc.Spec.ClusterIPs
	}
	return []string{svc.Spec.ClusterIP}
}

func loadBalancerIPs(svc *corev1.Service) []string {
	var ips []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP != "" && deref(in.IPMode, corev1.LoadBalancerIPModeVIP) == corev1.LoadBalancerIPModeVIP {
			ips = append(ips, in.IP)
		}
	}
	return ips
}

func affinity(svc *corev1.Service) int32 {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return *c.ClientIP.TimeoutSeconds
	}
	return corev1.DefaultClientIPServiceAffinitySeconds
}

// addresses parses those of one family. What isn't an address was refused when the Service was written.
func addresses(list []string, ipv6 bool) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if a = a.Unmap(); err == nil && a.Is6() == ipv6 && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func prefixes(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if p, err := netip.ParsePrefix(strings.TrimSpace(s)); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
