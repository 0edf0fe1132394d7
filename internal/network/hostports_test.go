package network

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"clipper.dev/clipper/internal/netlab"
)

func TestHostPorts(t *testing.T) {
	n := newNode(t, "one", "", netip.Addr{})
	outside := netlab.New(t)
	netlab.Join(n.Space, "up0", netip.MustParsePrefix("192.0.2.2/24"), outside, "up1", netip.MustParsePrefix("192.0.2.1/24"))
	n.start("10.244.1.0/24")
	web, addr := n.pod("web", func(s *Sandbox) {
		s.HostPorts = []HostPort{
			{Protocol: "TCP", HostPort: 8080, ContainerPort: 80},
			{Protocol: "UDP", HostPort: 8080, ContainerPort: 53},
			{Protocol: "TCP", HostIP: netip.MustParseAddr("192.0.2.2"), HostPort: 9090, ContainerPort: 80},
		}
	})
	web.ServeTCP(addr.String()+":80", "web")
	web.ServeUDP(addr.String()+":53", "dns")
	other, otherAddr := n.pod("other", nil)

	answers(t, outside, "tcp", "192.0.2.2:8080", "web 192.0.2.1")
	answers(t, outside, "udp", "192.0.2.2:8080", "dns 192.0.2.1")
	answers(t, outside, "tcp", "192.0.2.2:9090", "web 192.0.2.1")
	answers(t, n.Space, "tcp", "192.0.2.2:8080", "web 192.0.2.2")
	answers(t, n.Space, "tcp", "127.0.0.1:8080", "web 10.244.1.1")
	answers(t, other, "tcp", "192.0.2.2:8080", "web "+otherAddr.String())
	answers(t, web, "tcp", "192.0.2.2:8080", "web 10.244.1.1")
	if _, err := n.Ask("tcp", "10.244.1.1:9090"); !netlab.Refused(err) {
		t.Errorf("a port of one host address answers on another: %v", err)
	}

	t.Run("survive_a_restart", func(t *testing.T) {
		if err := n.net.Close(); err != nil {
			t.Fatal(err)
		}
		n.start("")
		answers(t, outside, "tcp", "192.0.2.2:8080", "web 192.0.2.1")
		if got, ok := n.net.Addresses("web"); !ok || got[0] != addr {
			t.Errorf("Addresses = %v, %v", got, ok)
		}
	})
	t.Run("lead_UDP_flows_to_the_pod_that_is_there", func(t *testing.T) {
		flow, err := outside.Dial("udp", "192.0.2.2:8081")
		if err != nil {
			t.Fatal(err)
		}
		defer flow.Close()
		if got, err := netlab.AskOn(flow); err == nil {
			t.Errorf("answered %q before there was a pod", got)
		}
		for _, id := range []string{"first", "second"} {
			pod, addr := n.pod(id, func(s *Sandbox) { s.HostPorts = []HostPort{{Protocol: "UDP", HostPort: 8081, ContainerPort: 53}} })
			pod.ServeUDP(addr.String()+":53", id)
			if got, err := netlab.AskOn(flow); err != nil || !strings.HasPrefix(got, id) {
				t.Errorf("%s: answered %q, %v", id, got, err)
			}
			if err := n.net.Detach(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("return_when_something_takes_the_table_away", func(t *testing.T) {
		n.Do(func() {
			if err := dropTable(n.cfg.Table); err != nil {
				t.Error(err)
			}
		})
		n.net.checked = time.Time{}
		if err := n.net.Ready(); err != nil {
			t.Error(err)
		}
		answers(t, outside, "tcp", "192.0.2.2:8080", "web 192.0.2.1")
	})
	t.Run("go_with_their_pod", func(t *testing.T) {
		if err := n.net.Detach(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		if _, err := outside.Ask("tcp", "192.0.2.2:8080"); !netlab.Refused(err) {
			t.Errorf("want a refusal, got %v", err)
		}
	})
}
