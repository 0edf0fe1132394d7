package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/durable"
	"clipper.dev/clipper/internal/nft"
)

// Network is the built-in pod network. It implements Pods.
type Network struct {
	cfg       Config
	log       *slog.Logger
	nl        *netlink.Handle
	bridge    netlink.Link
	mtu       int
	ipv6      bool                     // whether the kernel has IPv6
	group     uint32                   // the group of the pods' interfaces; the next number is the group of those being deleted
	raw, slow map[int]*nl.SocketHandle // for requests that the library lacks; slow for those that make the kernel wait
	ct        *netlink.Handle          // for connection tracking
	leases    leaseDir

	mu       sync.Mutex // protects what follows, and is never held over an operation on a pod's interface
	cidrs    []netip.Prefix
	pools    []*pool
	bySB     map[string]*lease
	busy     map[string]chan struct{} // sandboxes with an Attach or a removal under way; closed at its end
	due      []*lease                 // whose interfaces are to be deleted
	removing bool                     // whether a goroutine works on due

	tableMu sync.Mutex
	table   *table
	checked time.Time // when the table was seen last

	peerMu sync.Mutex
	peers  map[string]Peer
	vxlan  netlink.Link

	removal sync.WaitGroup
}

var _ Pods = (*Network)(nil)

// New makes the node's bridge and table, or takes over what an earlier process with the same configuration left.
// Pods of that process stay connected throughout.
func New(cfg Config) (*Network, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	n := &Network{
		cfg: cfg, log: cfg.Logger, nl: nl, group: linkGroup(cfg),
		leases: leaseDir(filepath.Join(cfg.StateDir, "leases")),
		busy:   make(map[string]chan struct{}),
		peers:  make(map[string]Peer),
	}
	if err := n.start(); err != nil {
		n.closeSockets()
		return nil, err
	}
	return n, nil
}

func (n *Network) closeSockets() {
	n.nl.Close()
	if n.ct != nil {
		n.ct.Close()
	}
	for _, sockets := range []map[int]*nl.SocketHandle{n.raw, n.slow} {
		for _, s := range sockets {
			s.Close()
		}
	}
}

func (n *Network) start() error {
	var err error
	if n.ct, err = netlink.NewHandle(unix.NETLINK_NETFILTER); err != nil {
		return fmt.Errorf("open netlink for connection tracking: %w", err)
	}
	if n.raw, err = sockets(); err != nil {
		return err
	}
	if n.slow, err = sockets(); err != nil {
		return err
	}
	if n.bySB, err = n.leases.load(); err != nil {
		return err
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		n.ipv6 = true
	}
	if n.mtu, err = n.podMTU(); err != nil {
		return err
	}
	if err := n.ensureBridge(); err != nil {
		return err
	}
	if err := n.ensureVXLAN(); err != nil {
		return err
	}
	if err := n.routerSysctls(); err != nil {
		return err
	}
	conn, err := nft.Open()
	if err != nil {
		return err
	}
	n.table = newTable(conn, n.cfg)
	cidrs, err := n.loadPodCIDRs()
	if err != nil {
		return err
	}
	if err := n.table.reset(cidrs, n.bySB); err != nil {
		return err
	}
	if len(cidrs) > 0 {
		if err := n.usePodCIDRs(cidrs); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.bySB {
		if l.Releasing {
			n.removeLater(l)
		}
	}
	return nil
}

// Close waits for removals that are under way and ends the connections to the kernel. Pods stay connected.
func (n *Network) Close() error {
	n.removal.Wait()
	n.closeSockets()
	return n.table.conn.Close()
}

// checkEvery is how often Ready looks whether the table is still there.
const checkEvery = 30 * time.Second

// Ready implements Pods. As it is asked time and again, it also notices when something has removed the table, and writes it anew.
func (n *Network) Ready() error {
	n.mu.Lock()
	known := len(n.pools) > 0
	n.mu.Unlock()
	if !known {
		return errors.New("node has no pod CIDR yet")
	}
	n.tableMu.Lock()
	defer n.tableMu.Unlock()
	if time.Since(n.checked) < checkEvery {
		return nil
	}
	if err := n.restoreTable(); err != nil {
		return err
	}
	n.checked = time.Now()
	return nil
}

// restoreTable writes the table if it isn't there. The caller holds tableMu.
func (n *Network) restoreTable() error {
	there, err := n.table.conn.HasTable(n.table.table)
	if err != nil || there {
		return err
	}
	n.log.Warn("Something has removed the pod network's table; writing it again", "table", n.cfg.Table)
	n.mu.Lock()
	cidrs := n.cidrs
	leases := make(map[string]*lease, len(n.bySB))
	for id, l := range n.bySB {
		copied := *l
		leases[id] = &copied
	}
	n.mu.Unlock()
	return n.table.reset(cidrs, leases)
}

// SetPodCIDRs implements Pods. Pods keep the addresses they have.
func (n *Network) SetPodCIDRs(ctx context.Context, cidrs []netip.Prefix) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	cidrs = slices.Clone(cidrs)
	for i, c := range cidrs {
		if !c.IsValid() || c.Addr().BitLen()-c.Bits() < 2 {
			return fmt.Errorf("pod CIDR %s has no room for pods", c)
		}
		cidrs[i] = c.Masked()
	}
	n.mu.Lock()
	same := slices.Equal(cidrs, n.cidrs)
	n.mu.Unlock()
	if same || len(cidrs) == 0 {
		return nil
	}
	data, err := json.Marshal(cidrs)
	if err != nil {
		return fmt.Errorf("encode pod CIDRs: %w", err)
	}
	if err := durable.WriteFile(n.cidrFile(), data, 0o600); err != nil {
		return err
	}
	n.tableMu.Lock()
	err = n.table.setPodCIDRs(cidrs)
	n.tableMu.Unlock()
	if err != nil {
		return err
	}
	return n.usePodCIDRs(cidrs)
}

func (n *Network) usePodCIDRs(cidrs []netip.Prefix) error {
	if err := n.holdRanges(cidrs); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cidrs, n.pools = cidrs, nil
	for _, c := range cidrs {
		p := newPool(c)
		for _, l := range n.bySB {
			for _, a := range l.Addresses {
				p.reserve(a)
			}
		}
		n.pools = append(n.pools, p)
	}
	return nil
}

func (n *Network) cidrFile() string { return filepath.Join(n.cfg.StateDir, "podcidrs.json") }

func (n *Network) loadPodCIDRs() ([]netip.Prefix, error) {
	data, err := os.ReadFile(n.cidrFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read pod CIDRs: %w", err)
	}
	var cidrs []netip.Prefix
	if err := json.Unmarshal(data, &cidrs); err != nil {
		return nil, fmt.Errorf("read pod CIDRs from %s: %w", n.cidrFile(), err)
	}
	return cidrs, nil
}

func (n *Network) ensureBridge() error {
	link, err := n.nl.LinkByName(n.cfg.Bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = n.cfg.Bridge, n.mtu
		attrs.HardwareAddr = derivedMAC(n.cfg.NodeName, n.cfg.Bridge)
		snooping := false
		if err = n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
			return fmt.Errorf("make bridge %s: %w", n.cfg.Bridge, err)
		}
		link, err = n.nl.LinkByName(n.cfg.Bridge)
	}
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", n.cfg.Bridge, err)
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("interface %s exists and is no bridge but a %s", n.cfg.Bridge, link.Type())
	}
	if link.Attrs().MTU != n.mtu {
		if err := n.nl.LinkSetMTU(link, n.mtu); err != nil {
			return fmt.Errorf("set MTU of bridge %s: %w", n.cfg.Bridge, err)
		}
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("set bridge %s up: %w", n.cfg.Bridge, err)
	}
	n.bridge = link
	return nil
}

// vxlanOverhead is what the encapsulation adds to a packet: outer IP, UDP and VXLAN headers and the inner Ethernet header.
func vxlanOverhead(underlay netip.Addr) int {
	if underlay.Is6() {
		return 70
	}
	return 50
}

func (n *Network) podMTU() (int, error) {
	if n.cfg.MTU != 0 {
		return n.cfg.MTU, nil
	}
	link, err := n.underlayLink()
	if err != nil {
		return 0, err
	}
	mtu := 1500
	if link != nil && link.Attrs().Flags&net.FlagLoopback == 0 {
		mtu = link.Attrs().MTU
	}
	if n.cfg.overlay() {
		mtu -= vxlanOverhead(n.cfg.Underlay)
	}
	return mtu, nil
}

// underlayLink returns the interface that has the node's address, or nil if none has.
func (n *Network) underlayLink() (netlink.Link, error) {
	if !n.cfg.Underlay.IsValid() {
		return nil, nil
	}
	addrs, err := n.nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list the node's addresses: %w", err)
	}
	for _, a := range addrs {
		if a.IP.Equal(n.cfg.Underlay.AsSlice()) {
			link, err := n.nl.LinkByIndex(a.LinkIndex)
			if err != nil {
				return nil, fmt.Errorf("find the interface of %s: %w", n.cfg.Underlay, err)
			}
			return link, nil
		}
	}
	return nil, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func hostNet(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, a.BitLen())) }
