package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// holdRanges gives the bridge (and the overlay device, for what is masqueraded there) the ranges' first
// addresses, and takes those of earlier ranges. What belongs to no pod is answered as unreachable rather than
// sent on to wherever the node's default route leads. Services are routed to the bridge.
func (n *Network) holdRanges(cidrs []netip.Prefix) error {
	n.mu.Lock()
	former := n.cidrs
	n.mu.Unlock()
	for _, c := range former {
		if slices.Contains(cidrs, c) {
			continue
		}
		if err := n.letGo(c); err != nil {
			return err
		}
	}
	for _, c := range cidrs {
		if err := n.hold(c); err != nil {
			return err
		}
	}
	return n.routeServices(cidrs)
}

// holders are the devices that have the ranges' first addresses.
func (n *Network) holders() []netlink.Link {
	if n.vxlan == nil {
		return []netlink.Link{n.bridge}
	}
	return []netlink.Link{n.bridge, n.vxlan}
}

func (n *Network) hold(c netip.Prefix) error {
	for _, link := range n.holders() {
		if err := n.nl.AddrReplace(link, holderAddr(c)); err != nil {
			return fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, gateway(c), err)
		}
	}
	if err := n.nl.RouteReplace(unreachable(c)); err != nil {
		return fmt.Errorf("make %s unreachable outside of pods: %w", c, err)
	}
	return nil
}

func (n *Network) letGo(c netip.Prefix) error {
	for _, link := range n.holders() {
		if err := n.nl.AddrDel(link, holderAddr(c)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take the address %s from %s: %w", gateway(c), link.Attrs().Name, err)
		}
	}
	if err := n.nl.RouteDel(unreachable(c)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove the route of %s: %w", c, err)
	}
	return nil
}

func (n *Network) routeServices(cidrs []netip.Prefix) error {
	for _, s := range n.cfg.ServiceCIDRs {
		for _, c := range cidrs {
			if c.Addr().Is4() != s.Addr().Is4() {
				continue
			}
			route := &netlink.Route{LinkIndex: n.bridge.Attrs().Index, Dst: ipNet(s.Masked()), Src: gateway(c).AsSlice(), Scope: netlink.SCOPE_LINK}
			if err := n.nl.RouteReplace(route); err != nil {
				return fmt.Errorf("route services %s to %s: %w", s, n.cfg.Bridge, err)
			}
			break
		}
	}
	return nil
}

func holderAddr(c netip.Prefix) *netlink.Addr {
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(gateway(c), gateway(c).BitLen()))}
	if c.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

func unreachable(c netip.Prefix) *netlink.Route {
	family := netlink.FAMILY_V4
	if c.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	return &netlink.Route{Dst: ipNet(c), Type: unix.RTN_UNREACHABLE, Family: family, Priority: unreachablePriority}
}

// unreachablePriority tells these routes from others for the same range: it's below that of any real route.
const unreachablePriority = 0x7c11
