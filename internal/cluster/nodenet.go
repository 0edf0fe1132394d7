package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where named network namespaces are.
const netnsDir = "/run/netns"

// The nodes of one machine are joined by a bridge: the server is the machine itself, each further node a network namespace
// with a veth to the bridge. What leaves the machine from there is masqueraded by the server's pod network.

// ensureNodeBridge makes the bridge and gives the machine its address on it.
func ensureNodeBridge(l Layout) error {
	link, err := netlink.LinkByName(l.NodeBridge)
	if err != nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = l.NodeBridge
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("add bridge %s: %w", l.NodeBridge, err)
		}
		if link, err = netlink.LinkByName(l.NodeBridge); err != nil {
			return fmt.Errorf("find bridge %s: %w", l.NodeBridge, err)
		}
	}
	if err := netlink.AddrReplace(link, ipNetAddr(l.NodeIP(1), l.NodeCIDR.Bits())); err != nil {
		return fmt.Errorf("give %s its address: %w", l.NodeBridge, err)
	}
	return netlink.LinkSetUp(link)
}

// dropDeadNetNS removes the name of a network namespace that is gone: whoever mounted it there has ended together with its mounts.
func dropDeadNetNS(name string) error {
	path := filepath.Join(netnsDir, name)
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	if errors.Is(err, os.ErrNotExist) || err == nil && fs.Type == unix.NSFS_MAGIC {
		return nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("remove the name of dead network namespace %s: %w", name, err)
	}
	return nil
}

// ensureNodeNetNS makes node n's network namespace and joins it to the bridge.
func ensureNodeNetNS(l Layout, n int) error {
	name := l.NetNS(n)
	if err := dropDeadNetNS(name); err != nil {
		return err
	}
	if ns, err := netns.GetFromName(name); err == nil {
		return ns.Close()
	}
	bridge, err := netlink.LinkByName(l.NodeBridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", l.NodeBridge, err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread is in another namespace now, and ends with the goroutine.
		done <- makeNodeNetNS(l, n, name, bridge)
	}()
	return <-done
}

// makeNodeNetNS runs on a thread of its own.
func makeNodeNetNS(l Layout, n int, name string, bridge netlink.Link) error {
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	host, err := netlink.NewHandleAt(home)
	if err != nil {
		return err
	}
	defer host.Close()
	ns, err := netns.NewNamed(name)
	if err != nil {
		return fmt.Errorf("make network namespace %s: %w", name, err)
	}
	defer ns.Close()

	attrs := netlink.NewLinkAttrs()
	attrs.Name = nodeVeth(l, n)
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}
	if err := host.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth %s: %w", attrs.Name, err)
	}
	if err := errors.Join(host.LinkSetMaster(veth, bridge), host.LinkSetUp(veth)); err != nil {
		return fmt.Errorf("join %s to %s: %w", attrs.Name, l.NodeBridge, err)
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	gateway := l.NodeIP(1).As4()
	return errors.Join(
		netlink.LinkSetUp(lo),
		netlink.AddrReplace(eth0, ipNetAddr(l.NodeIP(n), l.NodeCIDR.Bits())),
		netlink.LinkSetUp(eth0),
		netlink.RouteReplace(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway[:]}),
	)
}

func nodeVeth(l Layout, n int) string {
	return strings.TrimSuffix(l.NodeBridge, "-nodes") + "-n" + strconv.Itoa(n)
}

func ipNetAddr(a netip.Addr, bits int) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}}
}

// removeNodeNetNS removes node n's network namespace, and with it its end of the veth and so both.
func removeNodeNetNS(l Layout, n int) error {
	if err := netns.DeleteNamed(l.NetNS(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", l.NetNS(n), err)
	}
	return removeLink(nodeVeth(l, n))
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) { // the other end's namespace may be taking it along at this moment
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// defaultNodeIP is the machine's own address: the one that its default route starts from, else the first that isn't loopback.
func defaultNodeIP() (netip.Addr, error) {
	routes, err := netlink.RouteGet(net.IPv4(1, 1, 1, 1))
	if err == nil {
		for _, r := range routes {
			if a, ok := netip.AddrFromSlice(r.Src.To4()); ok && !a.IsLoopback() {
				return a, nil
			}
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list this machine's addresses: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			if ip, ok := netip.AddrFromSlice(n.IP.To4()); ok {
				return ip, nil
			}
		}
	}
	return netip.Addr{}, errors.New("this machine has no address but loopback: name one with --node-ip")
}
