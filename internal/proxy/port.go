package proxy

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Key names one port of one Service in one address family.
type Key struct {
	Service  types.NamespacedName
	Port     string // the port's name, empty for a single one
	Protocol corev1.Protocol
	IPv6     bool
}

// ServicePort is all that a node has to know of one port of a Service, in one address family.
// It is never changed after it left the model.
type ServicePort struct {
	Key
	// Port is the Service's port on ClusterIPs, ExternalIPs and LoadBalancerIPs.
	Port            uint16
	ClusterIPs      []netip.Addr
	ExternalIPs     []netip.Addr
	LoadBalancerIPs []netip.Addr
	// SourceRanges, if there are any, are who may use LoadBalancerIPs.
	SourceRanges []netip.Prefix
	// NodePort is open on every local address of the node; 0 is none.
	NodePort uint16
	// AffinitySeconds is for how long a client's connections stay with one endpoint; 0 is not at all.
	AffinitySeconds int32
	// Internal is for connections to ClusterIPs.
	Internal Backends
	// External is for connections to all else that come from outside of the cluster.
	External Backends
	// ExternalLocal says that External holds this node's endpoints only and that they shall see the client's
	// address. Connections from pods and from the node itself use Cluster instead.
	ExternalLocal bool
	// Cluster are the endpoints regardless of traffic policies.
	Cluster Backends
}

// Backends are the endpoints among which connections are distributed.
type Backends struct {
	Endpoints []Endpoint // in a fixed order, without duplicates
	// Otherwise is what happens while there is no endpoint.
	Otherwise Verdict
}

// Endpoint is one place to send connections to.
type Endpoint struct {
	netip.AddrPort
	// Local says that it runs on this node.
	Local bool
}

// Verdict is what happens to a connection for which there is no endpoint.
type Verdict uint8

const (
	// Reject tells the client at once that nobody listens: the Service has no endpoint anywhere.
	Reject Verdict = iota
	// Drop leaves the client without an answer: there are endpoints, but none that this node may use.
	Drop
)

// IsExternal tells whether the port can be reached from outside of the cluster.
func (p *ServicePort) IsExternal() bool {
	return p.NodePort != 0 || len(p.ExternalIPs) > 0 || len(p.LoadBalancerIPs) > 0
}

func (b Backends) equal(o Backends) bool {
	return b.Otherwise == o.Otherwise && slices.Equal(b.Endpoints, o.Endpoints)
}

// Equal tells whether a node would treat both the same.
func (p *ServicePort) Equal(o *ServicePort) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.Key == o.Key && p.Port == o.Port && p.NodePort == o.NodePort &&
		p.AffinitySeconds == o.AffinitySeconds && p.ExternalLocal == o.ExternalLocal &&
		slices.Equal(p.ClusterIPs, o.ClusterIPs) && slices.Equal(p.ExternalIPs, o.ExternalIPs) &&
		slices.Equal(p.LoadBalancerIPs, o.LoadBalancerIPs) && slices.Equal(p.SourceRanges, o.SourceRanges) &&
		p.Internal.equal(o.Internal) && p.External.equal(o.External) && p.Cluster.equal(o.Cluster)
}
