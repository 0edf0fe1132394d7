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

// rendered is what one service port comes to: chains, and elements of the maps that lead to them.
type rendered struct {
	chains   []chain
	elements []element
	locals   []netip.Addr // endpoints on this node
}

// chain is a chain of a service port in a form that can be compared.
type chain struct {
	name string
	// masquerade says for whom the mark is set.
	masquerade masquerade
	// ranges, if there are any, are who may go on to next. All others are dropped.
	ranges []netip.Prefix
	// insiders is the chain for connections from pods and from the node itself, or empty.
	insiders string
	// next is the chain that picks the endpoint, or empty if this one does.
	next      string
	endpoints []proxy.Endpoint
	affinity  int32 // seconds
}

type masquerade uint8

const (
	nobody    masquerade = iota
	outsiders            // who isn't a pod or this node in the pod network
	everybody
)

// sameRules tells whether both have the same rules, whatever their endpoints are.
func (c chain) sameRules(o chain) bool {
	return c.name == o.name && c.masquerade == o.masquerade && c.insiders == o.insiders && c.next == o.next &&
		c.affinity == o.affinity && slices.Equal(c.ranges, o.ranges) && len(c.endpoints) == len(o.endpoints)
}

// affinityMap is the name of the map from clients to endpoints, for a chain that has one.
func (c chain) affinityMap() string {
	if c.affinity == 0 || len(c.endpoints) < 2 {
		return ""
	}
	return "clients-" + c.name
}

// element is an entry of one of the four verdict maps.
type element struct {
	set elementSet
	key string // as the registers hold it
	to  string // chain
}

type elementSet uint8

const (
	serviceIPs elementSet = iota
	serviceNodePorts
	noEndpointIPs
	noEndpointNodePorts
)

// chainSuffix makes the names of a service port's chains unique and legible within the 127 bytes that a name may have.
func chainSuffix(k proxy.Key) string {
	full := strings.ToLower(fmt.Sprintf("%s/%s/%s/%s", k.Service.Namespace, k.Service.Name, k.Protocol, k.Port))
	sum := sha256.Sum256([]byte(full))
	return fmt.Sprintf("%s-%.80s", hex.EncodeToString(sum[:])[:10], full)
}

// render translates one service port. Nil stays nil.
func (t *table) render(p *proxy.ServicePort) *rendered {
	if p == nil {
		return nil
	}
	r := &rendered{}
	suffix := chainSuffix(p.Key)
	if len(p.Internal.Endpoints) > 0 {
		r.chains = append(r.chains, chain{name: "svc-" + suffix, masquerade: outsiders, endpoints: p.Internal.Endpoints, affinity: p.AffinitySeconds})
		r.addresses(serviceIPs, p, p.ClusterIPs, "svc-"+suffix)
	} else {
		r.addresses(noEndpointIPs, p, p.ClusterIPs, otherwise(p.Internal))
	}
	if p.IsExternal() {
		r.external(p, suffix)
	}
	for _, b := range []proxy.Backends{p.Internal, p.External} {
		for _, e := range b.Endpoints {
			if e.Local && !slices.Contains(r.locals, e.Addr()) {
				r.locals = append(r.locals, e.Addr())
			}
		}
	}
	return r
}

// external renders how the port is reached from outside.
func (r *rendered) external(p *proxy.ServicePort, suffix string) {
	entry := "ext-" + suffix
	sameAsInternal := slices.Equal(p.External.Endpoints, p.Internal.Endpoints)
	ext := chain{name: entry, masquerade: everybody}
	switch {
	case p.ExternalLocal && len(p.Cluster.Endpoints) > 0:
		ext.masquerade, ext.insiders = nobody, "all-"+suffix
		ext.endpoints, ext.affinity = p.External.Endpoints, p.AffinitySeconds
		r.chains = append(r.chains, chain{name: ext.insiders, endpoints: p.Cluster.Endpoints, affinity: p.AffinitySeconds}, ext)
	case len(p.External.Endpoints) == 0:
		entry = ""
	case sameAsInternal:
		ext.next = "svc-" + suffix
		r.chains = append(r.chains, ext)
	default:
		ext.endpoints, ext.affinity = p.External.Endpoints, p.AffinitySeconds
		r.chains = append(r.chains, ext)
	}
	if len(p.External.Endpoints) == 0 {
		all := slices.Concat(p.ExternalIPs, p.LoadBalancerIPs)
		r.addresses(noEndpointIPs, p, all, otherwise(p.External))
		r.nodePort(noEndpointNodePorts, p, otherwise(p.External))
	}
	if entry == "" {
		return
	}
	r.addresses(serviceIPs, p, p.ExternalIPs, entry)
	r.nodePort(serviceNodePorts, p, entry)
	if len(p.SourceRanges) > 0 && len(p.LoadBalancerIPs) > 0 {
		r.chains = append(r.chains, chain{name: "fw-" + suffix, ranges: p.SourceRanges, next: entry})
		entry = "fw-" + suffix
	}
	r.addresses(serviceIPs, p, p.LoadBalancerIPs, entry)
}

func otherwise(b proxy.Backends) string {
	if b.Otherwise == proxy.Drop {
		return dropChain
	}
	return rejectChain
}

func (r *rendered) addresses(set elementSet, p *proxy.ServicePort, addrs []netip.Addr, to string) {
	for _, a := range addrs {
		e := element{set, string(nft.ConcatKey(a.AsSlice(), []byte{protocolNumber(p.Key)}, nft.Port(p.Port))), to}
		// An address can be an external one and a load balancer's at once.
		if !slices.ContainsFunc(r.elements, func(o element) bool { return o.set == e.set && o.key == e.key }) {
			r.elements = append(r.elements, e)
		}
	}
}

func (r *rendered) nodePort(set elementSet, p *proxy.ServicePort, to string) {
	if p.NodePort != 0 {
		r.elements = append(r.elements, element{set, string(nft.ConcatKey([]byte{protocolNumber(p.Key)}, nft.Port(p.NodePort))), to})
	}
}
