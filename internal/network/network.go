package network

import (
	"context"
	"net/netip"
	"os"
)

// Pods connects pods to the cluster network. It is what the runtime's sandboxes call.
//
// The life of a pod's network: the runtime makes a network namespace and calls Attach; the pod then
// has an address, a default route and its host ports. Detach gives all of it back; it needs the
// sandbox's ID alone and succeeds when there is nothing left to do, so that it can be repeated after
// a crash. Both may be called concurrently for different sandboxes.
type Pods interface {
	// Attach connects the namespace to the pod network and returns the pod's addresses, the primary one first.
	Attach(ctx context.Context, pod Sandbox) ([]netip.Addr, error)
	// Detach releases everything that Attach made for the sandbox.
	Detach(ctx context.Context, sandboxID string) error
	// Addresses tells what Attach returned for a sandbox, also after a restart; false when it is not attached.
	Addresses(sandboxID string) ([]netip.Addr, bool)
	// SetPodCIDRs gives the node's ranges, as the kubelet learns them from its Node object.
	SetPodCIDRs(ctx context.Context, cidrs []netip.Prefix) error
	// Ready returns nil when Attach can succeed, else the reason in words for the node's NetworkReady condition.
	Ready() error
}

// Sandbox names a pod's network namespace.
type Sandbox struct {
	ID        string   // the runtime's sandbox ID
	Namespace string   // of the pod
	Name      string   // of the pod
	UID       string   // of the pod
	NetNS     *os.File // the network namespace; the caller keeps and closes it
	HostPorts []HostPort
	// Bandwidth limits in bits per second from the kubernetes.io/{ingress,egress}-bandwidth annotations; 0 is unlimited.
	IngressBitsPerSecond, EgressBitsPerSecond int64
}

// HostPort publishes a container's port on the node.
type HostPort struct {
	Protocol      string // "TCP", "UDP" or "SCTP"
	HostIP        netip.Addr
	HostPort      uint16
	ContainerPort uint16
}
