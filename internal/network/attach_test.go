package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"clipper.dev/clipper/internal/netlab"
)

func TestManyPodsComeAndGoAtOnce(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	n.start("10.244.1.0/24")
	spaces := make([]*netlab.Space, 8)
	for i := range spaces {
		spaces[i] = netlab.New(t)
	}
	var pods sync.WaitGroup
	var mu sync.Mutex
	holder := map[netip.Addr]string{}
	for i, s := range spaces {
		pods.Go(func() {
			for round := range 10 {
				id := fmt.Sprintf("pod-%d-%d", i, round)
				addrs, err := n.net.Attach(t.Context(), Sandbox{ID: id, NetNS: s.File, HostPorts: []HostPort{{Protocol: "TCP", HostPort: uint16(9000 + i), ContainerPort: 80}}})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if other := holder[addrs[0]]; other != "" {
					t.Errorf("%s and %s have %s", id, other, addrs[0])
				}
				holder[addrs[0]] = id
				mu.Unlock()
				mu.Lock()
				delete(holder, addrs[0])
				mu.Unlock()
				if err := n.net.Detach(t.Context(), id); err != nil {
					t.Error(err)
				}
				// Once it's gone, the interface's name in the namespace is free again.
				gone, err := n.net.claim(t.Context(), id)
				if err != nil {
					t.Error(err)
					return
				}
				gone()
			}
		})
	}
	pods.Wait()
	n.nothingLeft()
}

// nothingLeft checks that no pod left anything.
func (n *testNode) nothingLeft() {
	n.t.Helper()
	n.net.removal.Wait()
	n.Do(func() {
		links, err := netlink.LinkList()
		if err != nil {
			n.t.Error(err)
		}
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, "veth") || strings.HasPrefix(l.Attrs().Name, "bw") {
				n.t.Errorf("interface %s is left", l.Attrs().Name)
			}
		}
	})
	files, err := filepath.Glob(filepath.Join(n.cfg.StateDir, "leases", "*"))
	if err != nil || len(files) > 0 {
		n.t.Errorf("leases are left: %v, %v", files, err)
	}
	if len(n.net.pools[0].used)+len(n.net.bySB)+len(n.net.busy)+len(n.net.table.published) > 0 {
		n.t.Errorf("left in memory: %v, %v, %v, %v", n.net.pools[0].used, n.net.bySB, n.net.busy, n.net.table.published)
	}
}

func TestARepeatedAttachKeepsTheAddress(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	n.start("10.244.1.0/24")
	s := netlab.New(t)
	var first netip.Addr
	for range 3 {
		addrs, err := n.net.Attach(t.Context(), Sandbox{ID: "a", NetNS: s.File})
		if err != nil {
			t.Fatal(err)
		}
		if first.IsValid() && addrs[0] != first {
			t.Errorf("got %s after %s", addrs[0], first)
		}
		first = addrs[0]
	}
	s.ServeTCP(first.String()+":80", "a")
	answers(t, n.Space, "tcp", first.String()+":80", "a 10.244.1.1")
}

func TestAFailedAttachLeavesNothing(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	n.start("10.244.1.0/24")
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if addrs, err := n.net.Attach(t.Context(), Sandbox{ID: "a", NetNS: file}); err == nil {
		t.Errorf("attached to no namespace: %v", addrs)
	}
	for _, id := range []string{"", "../a", ".", "a/b"} {
		if _, err := n.net.Attach(t.Context(), Sandbox{ID: id, NetNS: file}); err == nil {
			t.Errorf("the sandbox ID %q was accepted", id)
		}
	}
	n.nothingLeft()
}

func TestDetachIsFinishedAfterACrash(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	n.start("10.244.1.0/24")
	_, addr := n.pod("a", nil)
	// As if the process had ended between Detach's note and the removal.
	l := *n.net.bySB["a"]
	l.Releasing = true
	if err := n.net.leases.save(&l); err != nil {
		t.Fatal(err)
	}
	n.start("10.244.1.0/24")
	n.nothingLeft()
	if _, ok := n.net.Addresses("a"); ok {
		t.Errorf("%s still has an owner", addr)
	}
}

func TestAnEndedNamespaceIsNoObstacle(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	n.start("10.244.1.0/24")
	s, _ := n.pod("a", nil)
	if err := s.File.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.net.Detach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	n.nothingLeft()
}
