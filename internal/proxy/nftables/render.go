package nftables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"clipper.dev/clipper/internal/nft"
	"clipper.dev/clipper/internal/proxy"
)

// rendered is what one service port comes to: elements of the verdict maps, the shared chains that they lead
// to, and chains of the port's own where the shared ones don't do.
type rendered struct {
	elements []*element
	shared   []shared
	chains   []chain
	locals   []netip.Addr // endpoints on this node
}

// endpointData is an endpoint as registers hold it: address and port.
type endpointData string

func dataOf(list []proxy.Endpoint) []endpointData {
	out := make([]endpointData, len(list))
	for i, e := range list {
		out[i] = endpointData(nft.ConcatKey(e.Addr().AsSlice(), nft.Port(e.Port())))
	}
	return out
}

// masquerade says whose connections get an address of the node's.
type masquerade uint8

const (
	nobody    masquerade = iota
	outsiders            // who isn't a pod or this node in the pod network
	everybody
)

// The lists of an element's endpoints.
const (
	normal     = 0
	everywhere = 1 // whatever the traffic policies are
)

// shared is a chain that picks one of count endpoints for every service port that has as many. It finds them
// by what the packet is addressed to.
type shared struct {
	masquerade masquerade
	byPort     bool // by protocol and port alone, as for a node port
	list       int
	count      int
}

func (s shared) name() string {
	by := "address"
	if s.byPort {
		by = "port"
	}
	return fmt.Sprintf("pick-%s-%s-%s-%d", [...]string{"nobody", "outsiders", "everybody"}[s.masquerade], by, [...]string{"normal", "everywhere"}[s.list], s.count)
}

// chain is a chain of one service port, in a form that can be compared.
type chain struct {
	name       string
	masquerade masquerade
	// ranges, if there are any, are who may go on to next. All others are dropped.
	ranges []netip.Prefix
	// insiders is the chain for connections from pods and from the node itself, or empty.
	insiders string
	// next is the chain where all others go on, or empty.
	next string
	// endpoints are among what this chain itself picks, for clients that stay with their endpoint for affinity seconds.
	endpoints []endpointData
	affinity  int32
}

func (c chain) equal(o chain) bool {
	return c.name == o.name && c.masquerade == o.masquerade && c.insiders == o.insiders && c.next == o.next &&
		c.affinity == o.affinity && slices.Equal(c.ranges, o.ranges) && slices.Equal(c.endpoints, o.endpoints)
}

// clients is the name of the map from clients to endpoints, for a chain that has one.
func (c chain) clients() string {
	if len(c.endpoints) == 0 {
		return ""
	}
	return "clients-" + c.name
}

// chainSuffix makes the names of a service port's chains unique and legible within the 127 bytes that a name may have.
func chainSuffix(k proxy.Key) string {
	full := strings.ToLower(fmt.Sprintf("%s/%s/%s/%s", k.Service.Namespace, k.Service.Name, k.Protocol, k.Port))
	sum := sha256.Sum256([]byte(full))
	return fmt.Sprintf("%s-%.80s", hex.EncodeToString(sum[:])[:10], full)
}

// renderer renders one service port.
type renderer struct {
	rendered
	*proxy.ServicePort
	suffix string
}

// render translates one service port. Nil stays nil.
func render(p *proxy.ServicePort) *rendered {
	if p == nil {
		return nil
	}
	r := &renderer{ServicePort: p, suffix: chainSuffix(p.Key)}
	if len(p.Internal.Endpoints) > 0 {
		to := r.pick("svc-", outsiders, false, normal, p.Internal)
		r.addresses(serviceIPs, p.ClusterIPs, to, p.Internal)
	} else {
		r.addresses(noEndpointIPs, p.ClusterIPs, otherwise(p.Internal))
	}
	if p.IsExternal() {
		r.external()
	}
	for _, b := range []proxy.Backends{p.Internal, p.External} {
		for _, e := range b.Endpoints {
			if e.Local && !slices.Contains(r.locals, e.Addr()) {
				r.locals = append(r.locals, e.Addr())
			}
		}
	}
	return &r.rendered
}

// pick returns the chain that picks one of the endpoints: a shared one, or one of the port's own if clients
// stay with their endpoint.
func (r *renderer) pick(prefix string, who masquerade, byPort bool, list int, b proxy.Backends) string {
	if len(b.Endpoints) == 0 {
		return ""
	}
	if r.AffinitySeconds == 0 {
		s := shared{masquerade: who, byPort: byPort, list: list, count: len(b.Endpoints)}
		if !slices.Contains(r.shared, s) {
			r.shared = append(r.shared, s)
		}
		return s.name()
	}
	c := chain{name: prefix + r.suffix, masquerade: who, endpoints: dataOf(b.Endpoints), affinity: r.AffinitySeconds}
	r.own(c)
	return c.name
}

func (r *renderer) own(c chain) {
	if !slices.ContainsFunc(r.chains, func(o chain) bool { return o.name == c.name }) {
		r.chains = append(r.chains, c)
	}
}

// external renders how the port is reached from outside.
func (r *renderer) external() {
	if len(r.External.Endpoints) == 0 {
		r.addresses(noEndpointIPs, slices.Concat(r.ExternalIPs, r.LoadBalancerIPs), otherwise(r.External))
		r.nodePort(noEndpointNodePorts, otherwise(r.External))
	}
	if to := r.entry("ext-", false); to != "" {
		r.addresses(serviceIPs, r.ExternalIPs, to, r.External, r.Cluster)
		if len(r.SourceRanges) > 0 && len(r.LoadBalancerIPs) > 0 {
			r.own(chain{name: "fw-" + r.suffix, ranges: r.SourceRanges, next: to})
			to = "fw-" + r.suffix
		}
		r.addresses(serviceIPs, r.LoadBalancerIPs, to, r.External, r.Cluster)
	}
	if to := r.entry("port-", true); to != "" {
		r.nodePort(serviceNodePorts, to, r.External, r.Cluster)
	}
}

// entry returns the chain where connections from outside begin, or nothing if none of them has an endpoint.
func (r *renderer) entry(prefix string, byPort bool) string {
	if byPort && r.NodePort == 0 || !byPort && len(r.ExternalIPs)+len(r.LoadBalancerIPs) == 0 {
		return ""
	}
	if !r.ExternalLocal {
		return r.pick("all-", everybody, byPort, normal, r.External)
	}
	if len(r.Cluster.Endpoints) == 0 && len(r.External.Endpoints) == 0 {
		return ""
	}
	c := chain{name: prefix + r.suffix}
	c.insiders = r.pick("all-", nobody, byPort, everywhere, r.Cluster)
	c.next = r.pick("local-", nobody, byPort, normal, r.External)
	r.own(c)
	return c.name
}

func otherwise(b proxy.Backends) string {
	if b.Otherwise == proxy.Drop {
		return dropChain
	}
	return rejectChain
}

func (r *renderer) addresses(set elementSet, addrs []netip.Addr, to string, lists ...proxy.Backends) {
	for _, a := range addrs {
		r.element(elementRef{set, string(nft.ConcatKey(a.AsSlice(), []byte{protocolNumber(r.Key)}, nft.Port(r.Port)))}, to, lists)
	}
}

func (r *renderer) nodePort(set elementSet, to string, lists ...proxy.Backends) {
	if r.NodePort != 0 {
		r.element(elementRef{set, string(nft.ConcatKey([]byte{protocolNumber(r.Key)}, nft.Port(r.NodePort)))}, to, lists)
	}
}

// element adds an element, unless the port has it already: an address can be an external one and a load balancer's at once.
func (r *renderer) element(ref elementRef, to string, lists []proxy.Backends) {
	if slices.ContainsFunc(r.elements, func(o *element) bool { return o.elementRef == ref }) {
		return
	}
	e := &element{elementRef: ref, to: to}
	for i, b := range lists {
		if r.AffinitySeconds == 0 && (i == normal || r.ExternalLocal) {
			e.lists[i] = dataOf(b.Endpoints)
		}
	}
	r.elements = append(r.elements, e)
}
