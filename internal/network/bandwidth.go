package network

import (
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// shaperLatencyMillis is how long a packet may wait in a shaper before it is dropped.
const shaperLatencyMillis = 25

// shaperName returns the name of the device that shapes what a pod sends.
func shaperName(link string) string { return "bw" + strings.TrimPrefix(link, "veth") }

// limitBandwidth shapes what goes to the pod where it leaves the node's end of the veth, and what comes from
// the pod on a device of its own to which all of it is redirected: shaping inside the pod could be undone by the pod.
func (n *Network) limitBandwidth(pod Sandbox, l *lease) error {
	link, err := n.nl.LinkByName(l.Link)
	if err != nil {
		return fmt.Errorf("find veth %s: %w", l.Link, err)
	}
	if pod.IngressBitsPerSecond > 0 {
		if err := n.shape(link, pod.IngressBitsPerSecond); err != nil {
			return fmt.Errorf("limit what the pod receives: %w", err)
		}
	}
	if pod.EgressBitsPerSecond == 0 {
		return nil
	}
	shaper, err := n.redirect(link)
	if err != nil {
		return fmt.Errorf("limit what the pod sends: %w", err)
	}
	if err := n.shape(shaper, pod.EgressBitsPerSecond); err != nil {
		return fmt.Errorf("limit what the pod sends: %w", err)
	}
	return nil
}

func (n *Network) shape(link netlink.Link, bitsPerSecond int64) error {
	rate := uint64(max(bitsPerSecond/8, 1))
	burst := uint32(min(max(rate/20, 64<<10), 4<<20)) // 50 ms, at least one segment of the largest size
	limit := rate*shaperLatencyMillis/1000 + uint64(burst)
	tbf := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate,
		Limit:      uint32(min(limit, 1<<31)),
		Buffer:     netlink.Xmittime(rate, burst),
	}
	if err := n.nl.QdiscReplace(tbf); err != nil {
		return fmt.Errorf("add a token bucket to %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// redirect sends all that comes in through the link by way of a device on which it can be shaped.
func (n *Network) redirect(link netlink.Link) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Group = shaperName(link.Attrs().Name), n.mtu, n.group
	if err := n.deleteLink(attrs.Name); err != nil {
		return nil, err
	}
	if err := n.nl.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("make device %s: %w", attrs.Name, err)
	}
	shaper, err := n.nl.LinkByName(attrs.Name)
	if err != nil {
		return nil, fmt.Errorf("find device %s: %w", attrs.Name, err)
	}
	if err := n.nl.LinkSetUp(shaper); err != nil {
		return nil, fmt.Errorf("set device %s up: %w", attrs.Name, err)
	}
	index := link.Attrs().Index
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
	if err := n.nl.QdiscReplace(ingress); err != nil {
		return nil, fmt.Errorf("add an ingress queue to %s: %w", link.Attrs().Name, err)
	}
	all := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL},
		ClassId:     netlink.MakeHandle(1, 1),
		Actions:     []netlink.Action{netlink.NewMirredAction(shaper.Attrs().Index)},
	}
	if err := n.nl.FilterAdd(all); err != nil {
		return nil, fmt.Errorf("redirect %s to %s: %w", link.Attrs().Name, attrs.Name, err)
	}
	return shaper, nil
}
