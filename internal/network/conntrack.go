package network

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetFlows deletes connection tracking entries of the lease's UDP host ports that lead elsewhere
// than they should.
// UDP has no end of a connection: who goes on sending would stay with a pod that is gone, or with the nowhere
// it met before the pod came. Present says whether the pod comes, else it goes.
func (n *Network) forgetFlows(l *lease, present bool) error {
	for _, a := range l.Addresses {
		ports := make(map[uint16]bool)
		for _, p := range l.HostPorts {
			if key, ok := hostPortKey(p, a); ok && key.protocol == unix.IPPROTO_UDP {
				ports[p.HostPort] = true
			}
		}
		if len(ports) == 0 {
			continue
		}
		family := netlink.InetFamily(unix.AF_INET)
		if a.Is6() {
			family = unix.AF_INET6
		}
		if _, err := n.ct.ConntrackDeleteFilters(netlink.ConntrackTable, family, udpFlows{ports, a, present}); err != nil {
			return fmt.Errorf("delete connection tracking entries of host ports: %w", err)
		}
	}
	return nil
}

// udpFlows matches flows to host ports: those that the pod answers, or if it's present those that it doesn't.
type udpFlows struct {
	ports   map[uint16]bool
	pod     netip.Addr
	present bool
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f udpFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP || !f.ports[flow.Forward.DstPort] {
		return false
	}
	from, ok := netip.AddrFromSlice(flow.Reverse.SrcIP)
	return ok && (from.Unmap() == f.pod) != f.present
}
