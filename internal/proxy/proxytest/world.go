package proxytest

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"clipper.dev/clipper/internal/netlab"
	"clipper.dev/clipper/internal/proxy"
)

// Config is what a backend is made with.
type Config struct {
	ClusterCIDRs, ServiceCIDRs []netip.Prefix
}

// NewBackend makes the backend under test. It is called on a thread in the node's namespace.
type NewBackend func(Config) (proxy.Backend, error)

// Addresses of the laboratory.
const (
	nodeName    = "node"
	nodeIP      = "192.0.2.2"
	outsideIP   = "192.0.2.1"
	clusterCIDR = "10.244.0.0/16"
	serviceCIDR = "10.96.0.0/16"
)

// world is a node with three pods and an outside host.
type world struct {
	t       testing.TB
	node    *netlab.Space
	outside *netlab.Space
	pods    map[string]*netlab.Space
	model   *proxy.Model
	config  Config
	backend proxy.Backend
	purge   func() error
}

func podIP(name string) string { return fmt.Sprintf("10.244.%d.2", name[0]) }

func newWorld(t testing.TB, make NewBackend, purge func() error) *world {
	t.Helper()
	w := &world{t: t, node: netlab.New(t), outside: netlab.New(t), pods: map[string]*netlab.Space{}, model: proxy.NewModel(nodeName), purge: purge}
	w.config = Config{
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix(clusterCIDR), netip.MustParsePrefix("fd00:10:244::/48")},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix(serviceCIDR), netip.MustParsePrefix("fd00:10:96::/112")},
	}
	netlab.Join(w.node, "up", netip.MustParsePrefix(nodeIP+"/24"), w.outside, "up", netip.MustParsePrefix(outsideIP+"/24"))
	w.outside.DefaultRoute(netip.MustParseAddr(nodeIP))
	w.node.DefaultRoute(netip.MustParseAddr(outsideIP))
	for _, name := range []string{"a", "b", "c"} {
		pod := netlab.New(t)
		gw := fmt.Sprintf("10.244.%d.1", name[0])
		netlab.Join(w.node, "pod-"+name, netip.MustParsePrefix(gw+"/24"), pod, "eth0", netip.MustParsePrefix(podIP(name)+"/24"))
		pod.DefaultRoute(netip.MustParseAddr(gw))
		pod.ServeTCP(podIP(name)+":8080", name)
		pod.ServeUDP(podIP(name)+":8080", name)
		w.pods[name] = pod
	}
	w.node.Do(func() {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
			t.Error(err)
		}
	})
	w.restart(make)
	return w
}

// restart makes a backend that knows nothing of the former one.
func (w *world) restart(make NewBackend) {
	w.t.Helper()
	var err error
	w.node.Do(func() { w.backend, err = make(w.config) })
	if err != nil {
		w.t.Fatal(err)
	}
	backend := w.backend
	w.t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			w.t.Error(err)
		}
	})
}

// sync puts into effect what changed in the model.
func (w *world) sync() {
	w.t.Helper()
	changes := w.model.Take()
	if err := w.backend.Sync(w.t.Context(), changes); err != nil {
		w.t.Fatal(err)
	}
	w.node.Do(func() {
		if err := proxy.CleanConntrack(changes, nil); err != nil {
			w.t.Error(err)
		}
	})
}

// service returns a Service with a TCP and a UDP port 80.
func service(name, clusterIP string, change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: clusterIP, ClusterIPs: []string{clusterIP},
			Selector: map[string]string{"app": name},
			Ports: []corev1.ServicePort{
				{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)},
				{Name: "udp", Protocol: corev1.ProtocolUDP, Port: 80, TargetPort: intstr.FromInt32(8080)},
			},
		},
	}
	if change != nil {
		change(s)
	}
	return s
}

func nodePort(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort = port, port
	}
}

// slice returns the endpoints of a service. "a" is the pod a on the node; "~a" is one that terminates but
// serves, "@a" one that is said to be on another node.
func slice(service string, pods ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: ptr("tcp"), Protocol: ptr(corev1.ProtocolTCP), Port: ptr(int32(8080))},
			{Name: ptr("udp"), Protocol: ptr(corev1.ProtocolUDP), Port: ptr(int32(8080))},
		},
	}
	for _, p := range pods {
		e := discoveryv1.Endpoint{NodeName: ptr(nodeName), Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)}}
		switch p[0] {
		case '~':
			e.Conditions.Ready, e.Conditions.Terminating, p = ptr(false), ptr(true), p[1:]
		case '@':
			e.NodeName, p = ptr("other"), p[1:]
		}
		e.Addresses = []string{podIP(p)}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func ptr[T any](v T) *T { return &v }
