package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// CleanConntrack deletes connection tracking entries of UDP ports that lead elsewhere than to the port's
// present endpoints. UDP has no end of a connection: a client that goes on sending from the same
// port would stay with an endpoint that is gone, or with the nowhere it met before there was one.
// A nil m is silent. It acts in the network namespace of the calling thread, and costs nothing if no UDP port's endpoints changed.
func CleanConntrack(changes []Change, m *Metrics) error {
	filters := map[bool]*flowFilter{}
	for _, c := range changes {
		if c.Key().Protocol != corev1.ProtocolUDP {
			continue
		}
		v6 := c.Key().IPv6
		if filters[v6] == nil {
			filters[v6] = &flowFilter{byAddress: map[netip.AddrPort]map[netip.AddrPort]bool{}, byNodePort: map[uint16]map[netip.AddrPort]bool{}}
		}
		filters[v6].add(c)
	}
	var errs []error
	for v6, f := range filters {
		family := netlink.InetFamily(unix.AF_INET)
		if v6 {
			family = unix.AF_INET6
		}
		if err := f.findLocal(int(family)); err != nil {
			errs = append(errs, err)
			continue
		}
		began := time.Now()
		deleted, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, f)
		m.forgot(v6, deleted, time.Since(began))
		if err != nil {
			errs = append(errs, fmt.Errorf("delete stale UDP connection tracking entries: %w", err))
		}
	}
	return errors.Join(errs...)
}

// flowFilter matches flows to a changed port's addresses that an endpoint answers which the port doesn't have.
type flowFilter struct {
	byAddress  map[netip.AddrPort]map[netip.AddrPort]bool
	byNodePort map[uint16]map[netip.AddrPort]bool
	local      map[netip.Addr]bool
}

// findLocal lists the node's own addresses, if it matters.
func (f *flowFilter) findLocal(family int) error {
	if len(f.byNodePort) == 0 {
		return nil
	}
	addrs, err := netlink.AddrList(nil, family)
	if err != nil {
		return fmt.Errorf("list the node's addresses: %w", err)
	}
	f.local = make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			f.local[ip.Unmap()] = true
		}
	}
	return nil
}

func (f *flowFilter) add(c Change) {
	present := make(map[netip.AddrPort]bool)
	if c.New != nil {
		for _, b := range []Backends{c.New.Internal, c.New.External, c.New.Cluster} {
			for _, e := range b.Endpoints {
				present[e.AddrPort] = true
			}
		}
	}
	for _, p := range []*ServicePort{c.Old, c.New} {
		if p == nil {
			continue
		}
		for _, list := range [][]netip.Addr{p.ClusterIPs, p.ExternalIPs, p.LoadBalancerIPs} {
			for _, a := range list {
				f.byAddress[netip.AddrPortFrom(a, p.Port)] = present
			}
		}
		if p.NodePort != 0 {
			f.byNodePort[p.NodePort] = present
		}
	}
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f *flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	dst, ok1 := netip.AddrFromSlice(flow.Forward.DstIP)
	from, ok2 := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok1 || !ok2 {
		return false
	}
	answering := netip.AddrPortFrom(from.Unmap(), flow.Reverse.SrcPort)
	if present, ours := f.byAddress[netip.AddrPortFrom(dst.Unmap(), flow.Forward.DstPort)]; ours {
		return !present[answering]
	}
	if present, ours := f.byNodePort[flow.Forward.DstPort]; ours {
		// A flow through the node to some other host's port of the same number is none of ours.
		return f.local[dst.Unmap()] && !present[answering]
	}
	return false
}
