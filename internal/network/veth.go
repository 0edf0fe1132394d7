package network

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// podInterface is what every pod's interface is called.
const podInterface = "eth0"

// nodeMAC is the hardware address of every veth's end on the node. It only has to differ from the pod's.
var nodeMAC = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// makeVeth makes the pod's interface and routes the pod's addresses to its other end. Both sides know each
// other's hardware address in advance: no packet ever waits for ARP.
func (n *Network) makeVeth(pod Sandbox, l *lease) error {
	podMAC := addressMAC(l.Addresses[0])
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr, attrs.Group = l.Link, n.mtu, nodeMAC, n.group
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: podInterface, PeerHardwareAddr: podMAC, PeerNamespace: netlink.NsFd(pod.NetNS.Fd())}
	err := n.nl.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) {
		// An earlier attempt for the same sandbox left it.
		if err := n.deleteLink(l.Link); err != nil {
			return err
		}
		err = n.nl.LinkAdd(veth)
	}
	if err != nil {
		return fmt.Errorf("make veth %s: %w", l.Link, err)
	}
	link, err := n.nl.LinkByName(l.Link)
	if err != nil {
		return fmt.Errorf("find veth %s: %w", l.Link, err)
	}
	if err := n.prepareLink(link); err != nil {
		return fmt.Errorf("prepare veth %s: %w", l.Link, err)
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("set veth %s up: %w", l.Link, err)
	}
	if err := n.configurePod(netns.NsHandle(pod.NetNS.Fd()), l.Addresses); err != nil {
		return err
	}
	for _, a := range l.Addresses {
		if err := n.routeToPod(link, a, podMAC); err != nil {
			return err
		}
	}
	return nil
}

// routeToPod leads to one address through the veth. The veth's end has the gateway's address, so that
// masquerading for a pod on this node chooses that one.
func (n *Network) routeToPod(link netlink.Link, a netip.Addr, podMAC net.HardwareAddr) error {
	gw, ok := n.gatewayOf(a)
	if !ok {
		return fmt.Errorf("address %s is in none of the node's pod CIDRs", a)
	}
	addr := &netlink.Addr{IPNet: hostNet(gw)}
	if a.Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := n.nl.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, gw, err)
	}
	index := link.Attrs().Index
	neigh := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: podMAC}
	if err := n.nl.NeighSet(neigh); err != nil {
		return fmt.Errorf("note the hardware address of %s: %w", a, err)
	}
	route := &netlink.Route{LinkIndex: index, Dst: hostNet(a), Src: gw.AsSlice(), Scope: netlink.SCOPE_LINK}
	if err := n.nl.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s to its pod: %w", a, err)
	}
	return nil
}

// configurePod sets addresses and routes inside the pod's namespace. The pod's address stands alone, so
// that it reaches even its neighbours through the node.
func (n *Network) configurePod(ns netns.NsHandle, addrs []netip.Addr) error {
	nl, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the pod's namespace: %w", err)
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the pod's loopback interface: %w", err)
	}
	if err := nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the pod's loopback interface up: %w", err)
	}
	eth, err := nl.LinkByName(podInterface)
	if err != nil {
		return fmt.Errorf("find the pod's interface: %w", err)
	}
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: hostNet(a)}
		if a.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := nl.AddrAdd(eth, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("give the pod the address %s: %w", a, err)
		}
	}
	if err := nl.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set the pod's interface up: %w", err)
	}
	for _, a := range addrs {
		if err := n.routeFromPod(nl, eth.Attrs().Index, a); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) routeFromPod(nl *netlink.Handle, index int, a netip.Addr) error {
	gw, ok := n.gatewayOf(a)
	if !ok {
		return fmt.Errorf("address %s is in none of the node's pod CIDRs", a)
	}
	neigh := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: gw.AsSlice(), HardwareAddr: nodeMAC}
	if err := nl.NeighSet(neigh); err != nil {
		return fmt.Errorf("note the gateway's hardware address: %w", err)
	}
	onLink := &netlink.Route{LinkIndex: index, Dst: hostNet(gw), Scope: netlink.SCOPE_LINK}
	if err := nl.RouteReplace(onLink); err != nil {
		return fmt.Errorf("route the pod to its gateway %s: %w", gw, err)
	}
	def := &netlink.Route{LinkIndex: index, Gw: gw.AsSlice(), Src: a.AsSlice()}
	if err := nl.RouteReplace(def); err != nil {
		return fmt.Errorf("make the pod's default route by %s: %w", gw, err)
	}
	return nil
}

func (n *Network) gatewayOf(a netip.Addr) (netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.cidrs {
		if c.Addr().Is4() == a.Is4() {
			return gateway(c), true
		}
	}
	return netip.Addr{}, false
}

// The kernel's numbers of what prepareLink says (linux/if_link.h, linux/ip.h).
const (
	iflaInetConf         = 1
	devconfRouteLocalnet = 26
	iflaInet6AddrGenMode = 8
	addrGenModeNone      = 1
)

// prepareLink lets connections to the node's 127.0.0.1 be translated to what lies behind the link: the table drops what
// comes from there for such an address. And it spares the link an IPv6 address of its own, which nobody needs and
// which the kernel would announce. Both are the interface's sysctls, by netlink.
func (n *Network) prepareLink(link netlink.Link) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.Sockets = n.raw
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	req.AddData(msg)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, nil)
	inet := spec.AddRtAttr(unix.AF_INET|unix.NLA_F_NESTED, nil)
	conf := inet.AddRtAttr(iflaInetConf|unix.NLA_F_NESTED, nil)
	conf.AddRtAttr(devconfRouteLocalnet, nl.Uint32Attr(1))
	if n.ipv6 {
		inet6 := spec.AddRtAttr(unix.AF_INET6|unix.NLA_F_NESTED, nil)
		inet6.AddRtAttr(iflaInet6AddrGenMode, nl.Uint8Attr(addrGenModeNone))
	}
	req.AddData(spec)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set addresses of %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// addressMAC returns the hardware address that goes with a pod's address.
func addressMAC(a netip.Addr) net.HardwareAddr {
	b := a.AsSlice()
	return append(net.HardwareAddr{0x0a, 0x58}, b[len(b)-4:]...)
}

// derivedMAC returns a hardware address that follows from names, so that nobody has to be told.
func derivedMAC(parts ...string) net.HardwareAddr {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	mac := net.HardwareAddr(h.Sum(nil)[:6])
	mac[0] = mac[0]&^0x01 | 0x02 // unicast, locally administered
	return mac
}
