package proxytest

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/netlab"
	"clipper.dev/clipper/internal/proxy"
)

// Run runs all tests against the backend. Purge takes all of the backend out of the kernel.
func Run(t *testing.T, backend NewBackend, purge func() error) {
	tests := []struct {
		name string
		run  func(*testing.T, *world)
	}{
		{"cluster_address_answers_over_TCP_and_UDP_from_pod_and_node", clusterAddress},
		{"connections_are_distributed", distribution},
		{"a_pod_reaches_itself_through_its_service", hairpin},
		{"without_endpoints_connections_are_refused", noEndpoints},
		{"an_address_without_a_service_is_refused", noService},
		{"node_port_answers_from_outside_node_and_pod", nodePorts},
		{"local_policy_keeps_the_clients_address", localPolicy},
		{"local_policy_without_local_endpoint_drops", localPolicyWithoutEndpoint},
		{"internal_local_policy_uses_endpoints_of_the_node", internalLocal},
		{"external_and_load_balancer_addresses_answer", externalAddresses},
		{"source_ranges_are_enforced", sourceRanges},
		{"affinity_keeps_a_client_with_its_endpoint", affinity},
		{"terminating_endpoints_serve_while_nothing_else_does", terminating},
		{"established_connections_outlive_their_endpoint", established},
		{"udp_flows_leave_an_endpoint_that_went", udpFlows},
		{"no_connection_fails_while_endpoints_change", rollingUpdate},
		{"many_endpoints", manyEndpoints},
		{"two_services_may_claim_one_address", claims},
		{"both_address_families", dualStack},
		{"rules_that_something_took_away_come_back", takenAway},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, newWorld(t, backend, purge)) })
	}
	t.Run("a_restart_disturbs_nothing", func(t *testing.T) { restart(t, newWorld(t, backend, purge), backend) })
	t.Run("affinity_outlives_a_restart", func(t *testing.T) { restartWithAffinity(t, newWorld(t, backend, purge), backend) })
}

func answers(t *testing.T, from *netlab.Space, network, addr string, want ...string) {
	t.Helper()
	got, err := from.Ask(network, addr)
	if err != nil {
		t.Errorf("%s %s: %v", network, addr, err)
		return
	}
	if !slices.Contains(want, got) {
		t.Errorf("%s %s answered %q, want one of %q", network, addr, got, want)
	}
}

func refuses(t *testing.T, from *netlab.Space, network, addr string) {
	t.Helper()
	if got, err := from.Ask(network, addr); !netlab.Refused(err) {
		t.Errorf("%s %s: got %q, %v; want a refusal", network, addr, got, err)
	}
}

func ignores(t *testing.T, from *netlab.Space, network, addr string) {
	t.Helper()
	got, err := from.AskWithin(silence, network, addr)
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("%s %s: got %q, %v; want no answer", network, addr, got, err)
	}
}

// silence is how long no answer is awaited where none should come.
const silence = 300 * time.Millisecond

// who asks n times and returns which pods answered.
func who(t *testing.T, from *netlab.Space, network, addr string, n int) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for range n {
		got, err := from.Ask(network, addr)
		if err != nil {
			t.Errorf("%s %s: %v", network, addr, err)
			return seen
		}
		seen[strings.Fields(got)[0]]++
	}
	return seen
}

func clusterAddress(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", nil))
	w.model.SetSlice(slice("web", "b"))
	w.sync()
	for _, network := range []string{"tcp", "udp"} {
		answers(t, w.pods["a"], network, "10.96.0.1:80", "b "+podIP("a"))
		answers(t, w.node, network, "10.96.0.1:80", "b 10.244.98.1")
		// Who isn't in the cluster's range is masqueraded.
		answers(t, w.outside, network, "10.96.0.1:80", "b 10.244.98.1")
	}
	w.model.DeleteService("default", "web")
	w.sync()
	refuses(t, w.pods["a"], "tcp", "10.96.0.1:80")
	refuses(t, w.node, "tcp", "10.96.0.1:80")
}

func distribution(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", nil))
	w.model.SetSlice(slice("web", "a", "b", "c"))
	w.sync()
	if seen := who(t, w.node, "tcp", "10.96.0.1:80", 60); len(seen) != 3 {
		t.Errorf("answered: %v", seen)
	}
}

func hairpin(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", nodePort(30080)))
	w.model.SetSlice(slice("web", "a"))
	w.sync()
	answers(t, w.pods["a"], "tcp", "10.96.0.1:80", "a 10.244.97.1")
	answers(t, w.pods["a"], "udp", "10.96.0.1:80", "a 10.244.97.1")
	answers(t, w.pods["a"], "tcp", nodeIP+":30080", "a 10.244.97.1")
}

func noEndpoints(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", nodePort(30080)))
	w.sync()
	for _, network := range []string{"tcp", "udp"} {
		refuses(t, w.pods["a"], network, "10.96.0.1:80")
		refuses(t, w.node, network, "10.96.0.1:80")
		refuses(t, w.outside, network, nodeIP+":30080")
	}
	w.model.SetSlice(slice("web", "b"))
	w.sync()
	answers(t, w.pods["a"], "tcp", "10.96.0.1:80", "b "+podIP("a"))
	w.model.DeleteSlice("default", "web", "web-1")
	w.sync()
	refuses(t, w.pods["a"], "tcp", "10.96.0.1:80")
}

func noService(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", nil))
	w.model.SetSlice(slice("web", "b"))
	w.sync()
	refuses(t, w.pods["a"], "tcp", "10.96.7.7:80")
	refuses(t, w.pods["a"], "tcp", "10.96.0.1:81")
	refuses(t, w.node, "tcp", "10.96.0.1:81")
}

func nodePorts(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", nodePort(30080)))
	w.model.SetSlice(slice("web", "b"))
	w.sync()
	for _, network := range []string{"tcp", "udp"} {
		answers(t, w.outside, network, nodeIP+":30080", "b 10.244.98.1")
		answers(t, w.node, network, nodeIP+":30080", "b 10.244.98.1")
		answers(t, w.pods["a"], network, nodeIP+":30080", "b 10.244.98.1")
	}
	w.model.SetService(service("web", "10.96.0.1", nil))
	w.sync()
	refuses(t, w.outside, "tcp", nodeIP+":30080")
	answers(t, w.node, "tcp", "10.96.0.1:80", "b 10.244.98.1")
}

func terminating(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", local))
	w.model.SetSlice(slice("web", "~a", "b"))
	w.sync()
	if seen := who(t, w.pods["c"], "tcp", "10.96.0.1:80", 20); seen["a"] != 0 {
		t.Errorf("a terminating endpoint answered: %v", seen)
	}
	w.model.SetSlice(slice("web", "~a", "@b"))
	w.sync()
	answers(t, w.outside, "tcp", nodeIP+":30080", "a "+outsideIP)
	w.model.SetSlice(slice("web", "~a"))
	w.sync()
	answers(t, w.pods["c"], "tcp", "10.96.0.1:80", "a "+podIP("c"))
}

func established(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", nil))
	w.model.SetSlice(slice("web", "b"))
	w.sync()
	c, err := w.pods["a"].Dial("tcp", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := netlab.AskOn(c); err != nil || got != "b "+podIP("a") {
		t.Fatalf("answered %q, %v", got, err)
	}
	w.model.SetSlice(slice("web", "c"))
	w.sync()
	fmt.Fprintln(c, "still there")
	if got, err := netlab.AskOn(c); err != nil || got != "still there" {
		t.Errorf("answered %q, %v", got, err)
	}
	answers(t, w.pods["a"], "tcp", "10.96.0.1:80", "c "+podIP("a"))
}

func udpFlows(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", nodePort(30080)))
	w.model.SetSlice(slice("web", "b"))
	w.sync()
	var flows []net.Conn
	for from, addr := range map[*netlab.Space]string{w.pods["a"]: "10.96.0.1:80", w.outside: nodeIP + ":30080"} {
		c, err := from.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := netlab.AskOn(c); err != nil || !strings.HasPrefix(got, "b ") {
			t.Fatalf("answered %q, %v", got, err)
		}
		flows = append(flows, c)
	}
	w.model.SetSlice(slice("web", "c"))
	w.sync()
	for _, c := range flows {
		if got, err := netlab.AskOn(c); err != nil || !strings.HasPrefix(got, "c ") {
			t.Errorf("%s answered %q, %v", c.RemoteAddr(), got, err)
		}
	}
}

func rollingUpdate(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", nil))
	w.model.SetSlice(slice("web", "a", "b"))
	w.sync()
	stop := make(chan struct{})
	var asking sync.WaitGroup
	var asked int
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := w.node.Ask("tcp", "10.96.0.1:80"); err != nil {
				t.Errorf("request %d: %v", asked, err)
			}
			asked++
		}
	})
	for _, pods := range [][]string{{"b", "c"}, {"c"}, {"c", "a"}, {"a"}, {"~a"}, {"~a", "b"}, {"a", "b"}} {
		for range 10 {
			w.model.SetSlice(slice("web", pods...))
			w.model.SetService(service("other", "10.96.0.2", nil))
			w.sync()
			w.model.DeleteService("default", "other")
			w.sync()
		}
	}
	close(stop)
	asking.Wait()
	if asked == 0 {
		t.Error("nothing was asked")
	}
}

func manyEndpoints(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }))
	s := slice("web", "b")
	for i := range 3000 {
		e := *s.Endpoints[0].DeepCopy()
		e.Addresses = []string{fmt.Sprintf("10.245.%d.%d", i/250, i%250)}
		e.NodeName = ptr("other")
		s.Endpoints = append(s.Endpoints, e)
	}
	w.model.SetSlice(s)
	w.sync()
	w.model.SetSlice(slice("web", "b"))
	w.sync()
	answers(t, w.node, "tcp", "10.96.0.1:80", "b 10.244.98.1")
}

func takenAway(t *testing.T, w *world) {
	w.model.SetService(service("web", "10.96.0.1", nil))
	w.model.SetSlice(slice("web", "b"))
	w.sync()
	w.node.Do(func() {
		if err := w.purge(); err != nil {
			t.Error(err)
		}
	})
	w.sync()
	answers(t, w.pods["a"], "tcp", "10.96.0.1:80", "b "+podIP("a"))
}

func claims(t *testing.T, w *world) {
	external := func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"198.51.100.1"} }
	w.model.SetService(service("first", "10.96.0.1", external))
	w.model.SetSlice(slice("first", "a"))
	w.sync()
	w.model.SetService(service("second", "10.96.0.2", external))
	w.model.SetSlice(slice("second", "b"))
	w.sync()
	answers(t, w.outside, "tcp", "198.51.100.1:80", "a 10.244.97.1")
	w.model.DeleteService("default", "first")
	w.sync()
	answers(t, w.outside, "tcp", "198.51.100.1:80", "b 10.244.98.1")
	w.model.DeleteService("default", "second")
	w.sync()
}

func restartWithAffinity(t *testing.T, w *world, backend NewBackend) {
	sticky := func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }
	fill := func() {
		w.model = proxy.NewModel(nodeName)
		w.model.SetService(service("web", "10.96.0.1", sticky))
		w.model.SetSlice(slice("web", "a", "b", "c"))
		w.sync()
	}
	fill()
	before := who(t, w.pods["a"], "tcp", "10.96.0.1:80", 5)
	for range 4 {
		w.restart(backend)
		fill()
		if after := who(t, w.pods["a"], "tcp", "10.96.0.1:80", 5); !maps.Equal(before, after) {
			t.Errorf("met %v, before a restart %v", after, before)
		}
	}
}

func restart(t *testing.T, w *world, backend NewBackend) {
	w.model.SetService(service("web", "10.96.0.1", nil))
	w.model.SetSlice(slice("web", "b"))
	w.model.SetService(service("gone", "10.96.0.9", nil))
	w.model.SetSlice(slice("gone", "b"))
	w.sync()
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := w.node.Ask("tcp", "10.96.0.1:80"); err != nil {
				t.Errorf("during a restart: %v", err)
			}
		}
	})
	fresh := *w
	for range 5 {
		fresh.restart(backend)
		fresh.model = proxy.NewModel(nodeName)
		fresh.model.SetService(service("web", "10.96.0.1", nil))
		fresh.model.SetSlice(slice("web", "b"))
		fresh.sync()
	}
	close(stop)
	asking.Wait()
	refuses(t, w.pods["a"], "tcp", "10.96.0.9:80")
}
