package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/types"
)

// ttlSeconds is how long answers from the zone may be kept.
const ttlSeconds = 5

// specVersion is the version of the Kubernetes DNS specification that the zone follows.
const specVersion = "1.1.0"

// Answer is what the zone has to say to a question.
type Answer struct {
	// Exists is false if there is no such name nor any below it.
	Exists bool
	Answer []dns.RR
	Extra  []dns.RR
	// Alias is where the name leads to instead, if it's the name of an external Service. Answer then holds the CNAME.
	Alias string
}

// Contains tells whether the name belongs to the cluster's domain.
func (z *Zone) Contains(name string) bool { return dns.IsSubDomain(z.domain, strings.ToLower(name)) }

// Lookup answers a question for a name of the domain.
func (z *Zone) Lookup(name string, qtype uint16) Answer {
	z.mu.RLock()
	defer z.mu.RUnlock()
	q := question{z: z, name: name, qtype: qtype}
	relative := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(name), z.domain), ".")
	if relative == "" {
		return q.apex()
	}
	labels := strings.Split(relative, ".")
	last := len(labels) - 1
	switch {
	case relative == "dns-version":
		return q.text(specVersion)
	case relative == "dns", relative == "svc", relative == "pod":
		return Answer{Exists: true}
	case relative == "ns.dns":
		return q.hosts(z.servers)
	case labels[last] == "svc":
		return q.belowServices(labels[:last])
	case labels[last] == "pod":
		return q.belowPods(labels[:last])
	}
	return Answer{}
}

// SOA returns the zone's start of authority.
func (z *Zone) SOA() dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: z.domain, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttlSeconds},
		Ns:  "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttlSeconds,
	}
}

// Reverse returns the names of an address, if it is one of a Service or an endpoint.
func (z *Zone) Reverse(qname string, addr netip.Addr) []dns.RR {
	z.mu.RLock()
	defer z.mu.RUnlock()
	var names []string
	if svc, ok := z.clusterIPs[addr]; ok {
		names = append(names, z.serviceName(svc))
	} else {
		for _, svc := range z.addresses[addr] {
			for _, e := range z.endpointsOf(svc, "", "") {
				if n := e.name() + "." + z.serviceName(svc); e.address == addr && !slices.Contains(names, n) {
					names = append(names, n)
				}
			}
		}
	}
	slices.Sort(names)
	var out []dns.RR
	for _, n := range names {
		out = append(out, &dns.PTR{Hdr: header(qname, dns.TypePTR), Ptr: n})
	}
	return out
}

func (z *Zone) serviceName(s types.NamespacedName) string {
	return s.Name + "." + s.Namespace + ".svc." + z.domain
}

// question is one question while it's answered.
type question struct {
	z     *Zone
	name  string
	qtype uint16
}

func (q question) asks(t uint16) bool { return q.qtype == t || q.qtype == dns.TypeANY }

func (q question) apex() Answer {
	a := Answer{Exists: true}
	if q.asks(dns.TypeSOA) {
		a.Answer = append(a.Answer, q.z.SOA())
	}
	if q.asks(dns.TypeNS) {
		ns := "ns.dns." + q.z.domain
		a.Answer = append(a.Answer, &dns.NS{Hdr: header(q.name, dns.TypeNS), Ns: ns})
		for _, s := range q.z.servers {
			a.Extra = append(a.Extra, addressRecord(ns, s))
		}
	}
	return a
}

func (q question) text(s string) Answer {
	a := Answer{Exists: true}
	if q.asks(dns.TypeTXT) {
		a.Answer = []dns.RR{&dns.TXT{Hdr: header(q.name, dns.TypeTXT), Txt: []string{s}}}
	}
	return a
}

func (q question) hosts(addrs []netip.Addr) Answer {
	a := Answer{Exists: true}
	for _, addr := range addrs {
		if q.asks(addressType(addr)) {
			a.Answer = append(a.Answer, addressRecord(q.name, addr))
		}
	}
	return a
}

// belowPods answers {address with dashes}.{namespace}.pod: the name itself says the address.
func (q question) belowPods(labels []string) Answer {
	switch len(labels) {
	case 1:
		return Answer{Exists: q.z.namespaces[labels[0]] > 0}
	case 2:
		if addr, ok := dashedAddress(labels[0]); ok {
			return q.hosts([]netip.Addr{addr})
		}
	}
	return Answer{}
}

// belowServices answers {service}.{namespace}.svc and what is below that.
func (q question) belowServices(labels []string) Answer {
	n := len(labels)
	if n == 1 {
		return Answer{Exists: q.z.namespaces[labels[0]] > 0}
	}
	name := types.NamespacedName{Namespace: labels[n-1], Name: labels[n-2]}
	svc := q.z.services[name]
	if svc == nil || n > 4 {
		return Answer{}
	}
	below := labels[:n-2]
	switch {
	case svc.externalName != "":
		if len(below) > 0 {
			return Answer{}
		}
		return Answer{Exists: true, Alias: svc.externalName, Answer: []dns.RR{&dns.CNAME{Hdr: header(q.name, dns.TypeCNAME), Target: svc.externalName}}}
	case len(below) == 0:
		return q.service(name, svc, "", "")
	case len(below) == 1 && strings.HasPrefix(below[0], "_"):
		return q.protocolNode(name, svc, strings.TrimPrefix(below[0], "_"))
	case len(below) == 1:
		return q.endpoint(name, below[0])
	case strings.HasPrefix(below[0], "_") && strings.HasPrefix(below[1], "_"):
		return q.service(name, svc, strings.TrimPrefix(below[0], "_"), strings.TrimPrefix(below[1], "_"))
	}
	return Answer{}
}

// protocolNode answers _tcp.{service}: a name without records of its own, if a port's name lies below it.
func (q question) protocolNode(name types.NamespacedName, svc *service, protocol string) Answer {
	matches := func(p port) bool { return p.name != "" && p.protocol == protocol }
	if len(svc.clusterIPs) > 0 {
		return Answer{Exists: slices.ContainsFunc(svc.ports, matches)}
	}
	for _, s := range q.z.endpoints[name] {
		if slices.ContainsFunc(s.ports, matches) {
			return Answer{Exists: true}
		}
	}
	return Answer{}
}

// service answers for a Service, or for one of its ports if it's named.
func (q question) service(name types.NamespacedName, svc *service, portName, protocol string) Answer {
	if len(svc.clusterIPs) == 0 {
		return q.headless(name, portName, protocol)
	}
	a := Answer{}
	if portName == "" {
		a = q.hosts(svc.clusterIPs)
	}
	target := q.z.serviceName(name)
	var srv []dns.RR
	for _, p := range svc.ports {
		if portName != "" && (p.name != portName || p.protocol != protocol) {
			continue
		}
		a.Exists = true
		srv = append(srv, srvRecord(q.name, target, p.number))
	}
	if portName != "" && a.Exists {
		a.Answer = q.hosts(svc.clusterIPs).Answer
	}
	if !q.asks(dns.TypeSRV) || len(srv) == 0 {
		return a
	}
	a.Answer = append(a.Answer, weigh(srv)...)
	for _, addr := range svc.clusterIPs {
		a.Extra = append(a.Extra, addressRecord(target, addr))
	}
	return a
}

// headless answers with the endpoints themselves. Without any, the Service's name exists nevertheless.
func (q question) headless(name types.NamespacedName, portName, protocol string) Answer {
	a := Answer{Exists: portName == ""}
	var srv []dns.RR
	var last netip.Addr
	for _, e := range q.z.endpointsOf(name, portName, protocol) {
		a.Exists = true
		target := e.name() + "." + q.z.serviceName(name)
		if e.address != last {
			last = e.address
			if q.asks(addressType(e.address)) {
				a.Answer = append(a.Answer, addressRecord(q.name, e.address))
			}
			if q.asks(dns.TypeSRV) {
				a.Extra = append(a.Extra, addressRecord(target, e.address))
			}
		}
		if q.asks(dns.TypeSRV) && e.port.number != 0 {
			srv = append(srv, srvRecord(q.name, target, e.port.number))
		}
	}
	a.Answer = append(a.Answer, weigh(srv)...)
	return a
}

// endpoint answers {hostname}.{service}.
func (q question) endpoint(name types.NamespacedName, host string) Answer {
	var a Answer
	var srv []dns.RR
	var addrs []netip.Addr
	for _, e := range q.z.endpointsOf(name, "", "") {
		if e.name() != host {
			continue
		}
		a.Exists = true
		if !slices.Contains(addrs, e.address) {
			addrs = append(addrs, e.address)
		}
		if q.asks(dns.TypeSRV) && e.port.number != 0 {
			srv = append(srv, srvRecord(q.name, q.name, e.port.number))
		}
	}
	if a.Exists {
		a.Answer = append(q.hosts(addrs).Answer, weigh(srv)...)
	}
	return a
}

// portEndpoint is an endpoint with one of its ports; the port is the zero value if it has none.
type portEndpoint struct {
	endpoint
	port port
}

// endpointsOf returns the endpoints of a Service that may be told, once for each port, in a fixed order.
// A port name selects the endpoints with that port.
func (z *Zone) endpointsOf(name types.NamespacedName, portName, protocol string) []portEndpoint {
	svc := z.services[name]
	if svc == nil {
		return nil
	}
	var out []portEndpoint
	for _, s := range z.endpoints[name] {
		ports := s.ports
		if portName != "" {
			ports = slices.DeleteFunc(slices.Clone(ports), func(p port) bool { return p.name != portName || p.protocol != protocol })
		} else if len(ports) == 0 {
			ports = []port{{}}
		}
		for _, e := range s.endpoints {
			if !e.ready && !svc.allEndpoints {
				continue
			}
			e.ready = true
			for _, p := range ports {
				out = append(out, portEndpoint{e, p})
			}
		}
	}
	slices.SortFunc(out, func(a, b portEndpoint) int {
		return cmp.Or(a.address.Compare(b.address), cmp.Compare(a.hostname, b.hostname), cmp.Compare(a.port.number, b.port.number),
			cmp.Compare(a.port.name, b.port.name), cmp.Compare(a.port.protocol, b.port.protocol))
	})
	// An endpoint can be in two slices for a moment.
	return slices.Compact(out)
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttlSeconds}
}

func addressType(a netip.Addr) uint16 {
	if a.Is6() {
		return dns.TypeAAAA
	}
	return dns.TypeA
}

func addressRecord(name string, a netip.Addr) dns.RR {
	if a.Is6() {
		return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()}
	}
	return &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()}
}

func srvRecord(name, target string, port uint16) dns.RR {
	return &dns.SRV{Hdr: header(name, dns.TypeSRV), Port: port, Target: target}
}

// weigh gives records equal weights that add up to 100, as far as that goes.
func weigh(srv []dns.RR) []dns.RR {
	for _, r := range srv {
		r.(*dns.SRV).Weight = uint16(max(100/len(srv), 1))
	}
	return srv
}

// dashedAddress reads 10-244-0-5 or fd00--1.
func dashedAddress(label string) (netip.Addr, bool) {
	separator := "."
	if strings.Count(label, "-") != 3 || strings.Contains(label, "--") {
		separator = ":"
	}
	a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator))
	return a, err == nil
}
