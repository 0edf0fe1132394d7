package network_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/netlab"
	"clipper.dev/clipper/internal/network"
	"clipper.dev/clipper/internal/proxy"
	"clipper.dev/clipper/internal/proxy/nftables"
)

// stackNode is a node with pod network and proxy, as a cluster has them.
type stackNode struct {
	*netlab.Space
	name     string
	underlay netip.Addr
	podCIDR  netip.Prefix
	net      *network.Network
	model    *proxy.Model
	backend  proxy.Backend
}

func newStackNode(t *testing.T, i int) *stackNode {
	n := &stackNode{
		Space: netlab.New(t), name: fmt.Sprintf("node-%d", i),
		underlay: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)),
		podCIDR:  netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)),
	}
	n.model = proxy.NewModel(n.name, netip.MustParseAddr("10.96.0.10"))
	return n
}

func (n *stackNode) start(t *testing.T) {
	cluster, services := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.96.0.0/16")
	cfg := network.Config{
		StateDir: t.TempDir(), ClusterCIDRs: []netip.Prefix{cluster}, ServiceCIDRs: []netip.Prefix{services},
		NodeName: n.name, Underlay: n.underlay,
	}
	cfg.Names("lab")
	var err error
	n.Do(func() {
		if n.net, err = network.New(cfg); err != nil {
			return
		}
		if err = n.net.SetPodCIDRs(t.Context(), []netip.Prefix{n.podCIDR}); err != nil {
			return
		}
		n.backend, err = nftables.New(nftables.Config{Table: "lab-proxy", ClusterCIDRs: cfg.ClusterCIDRs, ServiceCIDRs: cfg.ServiceCIDRs})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.net.Close(); err != nil {
			t.Error(err)
		}
		if err := n.backend.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestServicesOverThePodNetwork(t *testing.T) {
	nodes := []*stackNode{newStackNode(t, 1), newStackNode(t, 2)}
	netlab.Join(nodes[0].Space, "up0", netip.MustParsePrefix("192.0.2.1/24"), nodes[1].Space, "up0", netip.MustParsePrefix("192.0.2.2/24"))
	peers := []network.Peer{}
	for _, n := range nodes {
		n.start(t)
		peers = append(peers, network.Peer{Name: n.name, Underlay: n.underlay, PodCIDRs: []netip.Prefix{n.podCIDR}})
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.1", Selector: map[string]string{"app": "web"}},
	}
	port, tcp, udp := int32(8080), corev1.ProtocolTCP, corev1.ProtocolUDP
	for name, protocol := range map[string]*corev1.Protocol{"tcp": &tcp, "udp": &udp} {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: name, Protocol: *protocol, Port: 80, NodePort: 30080})
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &name, Protocol: protocol, Port: &port})
	}
	pods := map[string]*netlab.Space{}
	for i, n := range nodes {
		if err := n.net.SetPeers(t.Context(), peers); err != nil {
			t.Fatal(err)
		}
		pod, id := netlab.New(t), fmt.Sprintf("pod-%d", i+1)
		addrs, err := n.net.Attach(t.Context(), network.Sandbox{ID: id, NetNS: pod.File})
		if err != nil {
			t.Fatal(err)
		}
		pods[id] = pod
		for _, protocol := range []func(string, string) func(){pod.ServeTCP, pod.ServeUDP} {
			protocol(addrs[0].String()+":8080", id)
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addrs[0].String()}, NodeName: &n.name})
	}
	for _, n := range nodes {
		n.model.SetService(service)
		n.model.SetSlice(slice)
		if err := n.backend.Sync(t.Context(), n.model.Take()); err != nil {
			t.Fatal(err)
		}
	}
	// The API server: an endpoint on the first node's own address.
	kubernetes := service.DeepCopy()
	kubernetes.Name, kubernetes.Spec.Type, kubernetes.Spec.ClusterIP, kubernetes.Spec.Selector = "kubernetes", corev1.ServiceTypeClusterIP, "10.96.0.2", nil
	apiServer := slice.DeepCopy()
	apiServer.Name, apiServer.Labels[discoveryv1.LabelServiceName] = "kubernetes", "kubernetes"
	apiServer.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}}}
	nodes[0].ServeTCP("192.0.2.1:8080", "api")
	for _, n := range nodes {
		n.model.SetService(kubernetes)
		n.model.SetSlice(apiServer)
		if err := n.backend.Sync(t.Context(), n.model.Take()); err != nil {
			t.Fatal(err)
		}
	}
	from := map[string]*netlab.Space{"node-1": nodes[0].Space, "node-2": nodes[1].Space, "pod-1": pods["pod-1"], "pod-2": pods["pod-2"]}
	for who, space := range from {
		t.Run(who+"_reaches_the_API_server", func(t *testing.T) {
			if got, err := space.Ask("tcp", "10.96.0.2:80"); err != nil || !strings.HasPrefix(got, "api ") {
				t.Errorf("got %q, %v", got, err)
			}
		})
		t.Run(who+"_is_refused_without_a_service", func(t *testing.T) {
			if got, err := space.Ask("tcp", "10.96.0.99:80"); !netlab.Refused(err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
		for _, addr := range []string{"10.96.0.1:80", "192.0.2.1:30080", "192.0.2.2:30080", "127.0.0.1:30080"} {
			if strings.HasPrefix(who, "pod") && strings.HasPrefix(addr, "127.") {
				continue
			}
			for _, protocol := range []string{"tcp", "udp"} {
				t.Run(who+"_"+protocol+"_"+addr, func(t *testing.T) {
					seen := map[string]bool{}
					for range 40 {
						got, err := space.Ask(protocol, addr)
						if err != nil {
							t.Fatal(err)
						}
						seen[strings.Fields(got)[0]] = true
					}
					if len(seen) != 2 {
						t.Errorf("only %v answered", seen)
					}
				})
			}
		}
	}
}
