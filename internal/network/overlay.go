package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Peer is another node.
type Peer struct {
	Name     string
	Underlay netip.Addr
	PodCIDRs []netip.Prefix
	// VTEPMAC is the hardware address of the node's VXLAN device. Nil means the one that follows from its name.
	VTEPMAC net.HardwareAddr
}

func (p Peer) equal(o Peer) bool {
	return p.Name == o.Name && p.Underlay == o.Underlay && slices.Equal(p.PodCIDRs, o.PodCIDRs) && slices.Equal(p.VTEPMAC, o.VTEPMAC)
}

func (n *Network) vtepMAC(node string) net.HardwareAddr {
	return derivedMAC(node, fmt.Sprint(n.cfg.VXLAN.VNI))
}

// ensureVXLAN makes the overlay device. One with other settings than wanted is made anew.
func (n *Network) ensureVXLAN() error {
	if !n.cfg.overlay() {
		return nil
	}
	under, err := n.underlayLink()
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = n.cfg.VXLAN.Device, n.mtu, n.vtepMAC(n.cfg.NodeName)
	want := &netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: int(n.cfg.VXLAN.VNI), Port: int(n.cfg.VXLAN.Port),
		SrcAddr: n.cfg.Underlay.AsSlice(), Learning: false,
	}
	if under != nil {
		want.VtepDevIndex = under.Attrs().Index
	}
	have, err := n.nl.LinkByName(attrs.Name)
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("find VXLAN device %s: %w", attrs.Name, err)
	}
	if err == nil && !sameVXLAN(have, want) {
		if err := n.nl.LinkDel(have); err != nil {
			return fmt.Errorf("delete outdated VXLAN device %s: %w", attrs.Name, err)
		}
		have = nil
	}
	if have == nil || err != nil {
		if err := n.nl.LinkAdd(want); err != nil {
			return fmt.Errorf("make VXLAN device %s: %w", attrs.Name, err)
		}
		if have, err = n.nl.LinkByName(attrs.Name); err != nil {
			return fmt.Errorf("find VXLAN device %s: %w", attrs.Name, err)
		}
	}
	if err := n.prepareLink(have); err != nil {
		return err
	}
	if err := n.nl.LinkSetUp(have); err != nil {
		return fmt.Errorf("set VXLAN device %s up: %w", attrs.Name, err)
	}
	n.vxlan = have
	return nil
}

func sameVXLAN(link netlink.Link, want *netlink.Vxlan) bool {
	have, ok := link.(*netlink.Vxlan)
	return ok && have.VxlanId == want.VxlanId && have.Port == want.Port && have.MTU == want.MTU &&
		have.VtepDevIndex == want.VtepDevIndex && have.SrcAddr.Equal(want.SrcAddr) && slices.Equal(have.HardwareAddr, want.HardwareAddr)
}

// SetPeers tells which other nodes there are. Only differences from what it was told last are applied; the
// first call also removes what an earlier process left for nodes that are gone. This node itself is skipped.
func (n *Network) SetPeers(ctx context.Context, peers []Peer) error {
	if n.vxlan == nil {
		return nil
	}
	n.peerMu.Lock()
	defer n.peerMu.Unlock()
	want := make(map[string]Peer, len(peers))
	for _, p := range peers {
		if p.Name == n.cfg.NodeName || !p.Underlay.IsValid() || len(p.PodCIDRs) == 0 {
			continue
		}
		if p.VTEPMAC == nil {
			p.VTEPMAC = n.vtepMAC(p.Name)
		}
		want[p.Name] = p
	}
	var errs []error
	for name, old := range n.peers {
		if p, stays := want[name]; stays && p.equal(old) {
			continue
		}
		if err := n.removePeer(old); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(n.peers, name)
	}
	for name, p := range want {
		if _, known := n.peers[name]; known {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := n.addPeer(p); err != nil {
			errs = append(errs, err)
			continue
		}
		n.peers[name] = p
	}
	if err := n.removeStrayRoutes(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (n *Network) addPeer(p Peer) error {
	if err := n.nl.NeighSet(n.forwarding(p)); err != nil {
		return fmt.Errorf("tell where node %s is: %w", p.Name, err)
	}
	for _, cidr := range p.PodCIDRs {
		if err := n.nl.NeighSet(n.neighbour(p, cidr)); err != nil {
			return fmt.Errorf("note the hardware address of node %s: %w", p.Name, err)
		}
		if err := n.nl.RouteReplace(n.route(cidr)); err != nil {
			return fmt.Errorf("route %s to node %s: %w", cidr, p.Name, err)
		}
	}
	return nil
}

func (n *Network) removePeer(p Peer) error {
	for _, cidr := range p.PodCIDRs {
		if err := n.nl.RouteDel(n.route(cidr)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the route %s to node %s: %w", cidr, p.Name, err)
		}
		if err := n.nl.NeighDel(n.neighbour(p, cidr)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget the hardware address of node %s: %w", p.Name, err)
		}
	}
	if err := n.nl.NeighDel(n.forwarding(p)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forget where node %s is: %w", p.Name, err)
	}
	return nil
}

// removeStrayRoutes removes routes through the overlay that belong to no peer.
func (n *Network) removeStrayRoutes() error {
	wanted := make(map[string]bool)
	for _, p := range n.peers {
		for _, c := range p.PodCIDRs {
			wanted[c.Masked().String()] = true
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := n.nl.RouteList(n.vxlan, family)
		if err != nil {
			return fmt.Errorf("list routes through %s: %w", n.cfg.VXLAN.Device, err)
		}
		for _, r := range routes {
			if r.Dst == nil || r.Gw == nil || wanted[r.Dst.String()] {
				continue
			}
			if err := n.nl.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove the stray route %s: %w", r.Dst, err)
			}
		}
	}
	return nil
}

func (n *Network) forwarding(p Peer) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: n.vxlan.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
		State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, IP: p.Underlay.AsSlice(), HardwareAddr: p.VTEPMAC,
	}
}

func (n *Network) neighbour(p Peer, cidr netip.Prefix) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: n.vxlan.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: gateway(cidr).AsSlice(), HardwareAddr: p.VTEPMAC,
	}
}

// route leads to a peer's range by its bridge's address, with this node's bridge as the source of what the
// node itself sends: an address that the peer's pods can answer through the overlay.
func (n *Network) route(cidr netip.Prefix) *netlink.Route {
	r := &netlink.Route{
		LinkIndex: n.vxlan.Attrs().Index, Dst: ipNet(cidr.Masked()), Gw: gateway(cidr).AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, own := range n.cidrs {
		if own.Addr().Is4() == cidr.Addr().Is4() {
			r.Src = gateway(own).AsSlice()
			break
		}
	}
	return r
}
