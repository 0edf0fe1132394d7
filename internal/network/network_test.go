package network

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"clipper.dev/clipper/internal/netlab"
)

var (
	clusterCIDR = netip.MustParsePrefix("10.244.0.0/16")
	serviceCIDR = netip.MustParsePrefix("10.96.0.0/16")
)

// testNode is a node in a namespace of its own.
type testNode struct {
	*netlab.Space
	t   *testing.T
	cfg Config
	net *Network
}

func newNode(t *testing.T, name, podCIDR string, underlay netip.Addr) *testNode {
	t.Helper()
	n := &testNode{Space: netlab.New(t), t: t}
	n.cfg = Config{StateDir: t.TempDir(), ClusterCIDRs: []netip.Prefix{clusterCIDR}, ServiceCIDRs: []netip.Prefix{serviceCIDR}, NodeName: name, Underlay: underlay}
	n.cfg.Names("lab")
	return n
}

func (n *testNode) start(podCIDR string) {
	n.t.Helper()
	var err error
	n.Do(func() {
		if n.net, err = New(n.cfg); err == nil && podCIDR != "" {
			err = n.net.SetPodCIDRs(n.t.Context(), []netip.Prefix{netip.MustParsePrefix(podCIDR)})
		}
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := n.net.Close(); err != nil {
			n.t.Error(err)
		}
	})
}

func (n *testNode) pod(id string, change func(*Sandbox)) (*netlab.Space, netip.Addr) {
	n.t.Helper()
	s := netlab.New(n.t)
	sb := Sandbox{ID: id, Namespace: "default", Name: id, NetNS: s.File}
	if change != nil {
		change(&sb)
	}
	addrs, err := n.net.Attach(n.t.Context(), sb)
	if err != nil {
		n.t.Fatal(err)
	}
	return s, addrs[0]
}

func answers(t *testing.T, from *netlab.Space, network, addr, want string) {
	t.Helper()
	got, err := from.Ask(network, addr)
	if err != nil {
		t.Errorf("%s %s: %v", network, addr, err)
		return
	}
	if got != want {
		t.Errorf("%s %s answered %q, want %q", network, addr, got, want)
	}
}

func TestPodsReachEachOtherAndTheNode(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	n.start("10.244.1.0/24")
	a, addrA := n.pod("a", nil)
	b, addrB := n.pod("b", nil)
	b.ServeTCP(addrB.String()+":80", "b")
	b.ServeUDP(addrB.String()+":53", "b")
	n.ServeTCP("10.244.1.1:80", "node")
	answers(t, a, "tcp", addrB.String()+":80", "b "+addrA.String())
	answers(t, a, "udp", addrB.String()+":53", "b "+addrA.String())
	answers(t, a, "tcp", "10.244.1.1:80", "node "+addrA.String())
	answers(t, n.Space, "tcp", addrB.String()+":80", "b 10.244.1.1")
	if got, ok := n.net.Addresses("a"); !ok || got[0] != addrA {
		t.Errorf("Addresses = %v, %v", got, ok)
	}
}

func TestPodsReachTheOutsideWithTheNodesAddress(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	outside := netlab.New(t)
	netlab.Join(n.Space, "up0", netip.MustParsePrefix("192.0.2.2/24"), outside, "up1", netip.MustParsePrefix("192.0.2.1/24"))
	n.start("10.244.1.0/24")
	a, _ := n.pod("a", nil)
	outside.ServeTCP("192.0.2.1:80", "outside")
	answers(t, a, "tcp", "192.0.2.1:80", "outside 192.0.2.2")
}

func TestPodsDoNotReachTheNodesLoopback(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	n.start("10.244.1.0/24")
	a, _ := n.pod("a", nil)
	n.ServeTCP("127.0.0.1:80", "secret")
	a.Do(func() {
		lo, _ := netlink.LinkByName("lo")
		eth, _ := netlink.LinkByName("eth0")
		if err := netlink.LinkSetDown(lo); err != nil {
			t.Error(err)
		}
		if err := setSysctl("net/ipv4/conf/eth0/route_localnet", "1"); err != nil {
			t.Error(err)
		}
		dst := ipNet(netip.MustParsePrefix("127.0.0.1/32"))
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: dst, Gw: []byte{10, 244, 1, 1}}); err != nil {
			t.Error(err)
		}
	})
	if got, err := a.Ask("tcp", "127.0.0.1:80"); err == nil {
		t.Errorf("the node's loopback answered %q", got)
	}
}

func TestAddressesAreNotReusedWhileTheInterfaceLives(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	n.start("10.244.1.0/29") // five pods
	for i := range 12 {
		id := "pod" + string(rune('a'+i))
		_, addr := n.pod(id, nil)
		if err := n.net.Detach(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := n.net.Detach(t.Context(), id); err != nil {
			t.Errorf("second Detach: %v", err)
		}
		n.net.removal.Wait()
		n.Do(func() {
			if _, err := netlink.LinkByName(n.net.linkName(id)); err == nil {
				t.Errorf("the interface of %s (%s) is still there", id, addr)
			}
		})
	}
	if len(n.net.pools[0].used) != 0 || len(n.net.bySB) != 0 {
		t.Errorf("left: %v, %v", n.net.pools[0].used, n.net.bySB)
	}
}

func TestNodesReachEachOthersPodsThroughTheOverlay(t *testing.T) {
	one := newNode(t, "one", "", netip.MustParseAddr("192.0.2.1"))
	two := newNode(t, "two", "", netip.MustParseAddr("192.0.2.2"))
	netlab.Join(one.Space, "up0", netip.MustParsePrefix("192.0.2.1/24"), two.Space, "up0", netip.MustParsePrefix("192.0.2.2/24"))
	one.start("10.244.1.0/24")
	two.start("10.244.2.0/24")
	peers := []Peer{
		{Name: "one", Underlay: one.cfg.Underlay, PodCIDRs: one.net.cidrs},
		{Name: "two", Underlay: two.cfg.Underlay, PodCIDRs: two.net.cidrs},
	}
	for _, n := range []*testNode{one, two} {
		for range 2 {
			if err := n.net.SetPeers(t.Context(), peers); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, addrA := one.pod("a", nil)
	b, addrB := two.pod("b", nil)
	b.ServeTCP(addrB.String()+":80", "b")
	two.ServeTCP("192.0.2.2:81", "two")
	answers(t, a, "tcp", addrB.String()+":80", "b "+addrA.String())
	answers(t, one.Space, "tcp", addrB.String()+":80", "b 10.244.1.1")
	answers(t, a, "tcp", "192.0.2.2:81", "two 192.0.2.1")

	t.Run("until_the_peer_goes", func(t *testing.T) {
		if err := one.net.SetPeers(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Ask("tcp", addrB.String()+":80"); err == nil {
			t.Errorf("still answers %q", got)
		}
	})
	t.Run("and_again_when_it_returns", func(t *testing.T) {
		if err := one.net.SetPeers(t.Context(), peers); err != nil {
			t.Fatal(err)
		}
		answers(t, a, "tcp", addrB.String()+":80", "b "+addrA.String())
	})
}

func TestBandwidthLimits(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	n.start("10.244.1.0/24")
	a, addr := n.pod("a", func(s *Sandbox) { s.IngressBitsPerSecond, s.EgressBitsPerSecond = 10_000_000, 5_000_000 })
	a.ServeTCP(addr.String()+":80", "a")
	answers(t, n.Space, "tcp", addr.String()+":80", "a 10.244.1.1")
	n.Do(func() {
		for name, want := range map[string]uint64{n.net.linkName("a"): 10_000_000 / 8, shaperName(n.net.linkName("a")): 5_000_000 / 8} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				t.Error(err)
				continue
			}
			qdiscs, err := netlink.QdiscList(link)
			if err != nil {
				t.Error(err)
			}
			found := false
			for _, q := range qdiscs {
				if tbf, ok := q.(*netlink.Tbf); ok {
					found = tbf.Rate == want
				}
			}
			if !found {
				t.Errorf("%s has no token bucket of %d bytes per second: %v", name, want, qdiscs)
			}
		}
	})
}

func TestPurgeLeavesNothing(t *testing.T) {
	n := newNode(t, "one", "", netip.MustParseAddr("192.0.2.1"))
	outside := netlab.New(t)
	netlab.Join(n.Space, "up0", netip.MustParsePrefix("192.0.2.1/24"), outside, "up1", netip.MustParsePrefix("192.0.2.3/24"))
	n.start("10.244.1.0/24")
	n.pod("a", func(s *Sandbox) { s.EgressBitsPerSecond = 1_000_000 })
	n.pod("b", nil)
	for range 2 {
		n.Do(func() {
			if err := Purge(n.cfg); err != nil {
				t.Error(err)
			}
			links, err := netlink.LinkList()
			if err != nil {
				t.Error(err)
			}
			for _, l := range links {
				if name := l.Attrs().Name; name != "lo" && name != "up0" && !strings.HasPrefix(name, "ifb") {
					t.Errorf("interface %s is left", name)
				}
			}
		})
	}
}

func TestPool(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.0.0.8/29"))
	var got []string
	for {
		a, err := p.allocate()
		if err != nil {
			break
		}
		got = append(got, a.String())
	}
	if s := strings.Join(got, " "); s != "10.0.0.10 10.0.0.11 10.0.0.12 10.0.0.13 10.0.0.14" {
		t.Errorf("allocated %s", s)
	}
	p.release(netip.MustParseAddr("10.0.0.12"))
	if a, err := p.allocate(); err != nil || a.String() != "10.0.0.12" {
		t.Errorf("allocate = %v, %v", a, err)
	}
}

func TestNamesFitAndDiffer(t *testing.T) {
	var short, long, other Config
	short.Names("clipper")
	long.Names("a-very-long-cluster-name-1")
	other.Names("a-very-long-cluster-name-2")
	if short.Bridge != "clipper0" || short.VXLAN.Device != "clipper.vx" || short.Table != "clipper-net" {
		t.Errorf("short: %+v", short)
	}
	if err := (&Config{Bridge: long.Bridge, Table: long.Table, StateDir: "x", VXLAN: long.VXLAN}).complete(); err != nil {
		t.Error(err)
	}
	if long.Bridge == other.Bridge || long.VXLAN.VNI == other.VXLAN.VNI {
		t.Errorf("two clusters share %s or %d", long.Bridge, long.VXLAN.VNI)
	}
}

func TestNodesOnThisMachineReachTheOutside(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	n.cfg.Masquerade = []netip.Prefix{netip.MustParsePrefix("10.243.0.0/24")}
	outside, inner := netlab.New(t), netlab.New(t)
	netlab.Join(n.Space, "up0", netip.MustParsePrefix("192.0.2.2/24"), outside, "up1", netip.MustParsePrefix("192.0.2.1/24"))
	netlab.Join(n.Space, "in0", netip.MustParsePrefix("10.243.0.1/24"), inner, "eth0", netip.MustParsePrefix("10.243.0.2/24"))
	inner.DefaultRoute(netip.MustParseAddr("10.243.0.1"))
	n.start("10.244.1.0/24")
	outside.ServeTCP("192.0.2.1:80", "outside")
	n.ServeTCP("10.243.0.1:80", "server")
	answers(t, inner, "tcp", "192.0.2.1:80", "outside 192.0.2.2")
	answers(t, inner, "tcp", "10.243.0.1:80", "server 10.243.0.2")
}

func TestDualStack(t *testing.T) {
	cluster6 := netip.MustParsePrefix("fd00:10:244::/48")
	one := newNode(t, "one", "", netip.MustParseAddr("192.0.2.1"))
	two := newNode(t, "two", "", netip.MustParseAddr("192.0.2.2"))
	outside := netlab.New(t)
	netlab.Join(one.Space, "up0", netip.MustParsePrefix("192.0.2.1/24"), two.Space, "up0", netip.MustParsePrefix("192.0.2.2/24"))
	netlab.Join(one.Space, "out0", netip.MustParsePrefix("2001:db8::2/64"), outside, "out1", netip.MustParsePrefix("2001:db8::1/64"))
	var peers []Peer
	for i, n := range []*testNode{one, two} {
		n.cfg.ClusterCIDRs = append(n.cfg.ClusterCIDRs, cluster6)
		n.start("")
		cidrs := []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i+1)), netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", i+1))}
		if err := n.net.SetPodCIDRs(t.Context(), cidrs); err != nil {
			t.Fatal(err)
		}
		peers = append(peers, Peer{Name: n.cfg.NodeName, Underlay: n.cfg.Underlay, PodCIDRs: cidrs})
	}
	attach := func(n *testNode, id string, ports ...HostPort) (*netlab.Space, []netip.Addr) {
		s := netlab.New(t)
		addrs, err := n.net.Attach(t.Context(), Sandbox{ID: id, NetNS: s.File, HostPorts: ports})
		if err != nil || len(addrs) != 2 {
			t.Fatalf("Attach = %v, %v", addrs, err)
		}
		return s, addrs
	}
	for _, n := range []*testNode{one, two} {
		if err := n.net.SetPeers(t.Context(), peers); err != nil {
			t.Fatal(err)
		}
	}
	a, addrsA := attach(one, "a")
	b, addrsB := attach(one, "b", HostPort{Protocol: "TCP", HostPort: 8080, ContainerPort: 80})
	c, addrsC := attach(two, "c")
	for s, addr := range map[*netlab.Space]netip.Addr{b: addrsB[1], c: addrsC[1]} {
		s.ServeTCP(netip.AddrPortFrom(addr, 80).String(), "here")
	}
	outside.ServeTCP("[2001:db8::1]:80", "outside")
	answers(t, a, "tcp", netip.AddrPortFrom(addrsB[1], 80).String(), "here "+addrsA[1].String())
	answers(t, a, "tcp", netip.AddrPortFrom(addrsC[1], 80).String(), "here "+addrsA[1].String())
	answers(t, one.Space, "tcp", netip.AddrPortFrom(addrsC[1], 80).String(), "here fd00:10:244:1::1")
	answers(t, a, "tcp", "[2001:db8::1]:80", "outside 2001:db8::2")
	answers(t, outside, "tcp", "[2001:db8::2]:8080", "here 2001:db8::1")
}
