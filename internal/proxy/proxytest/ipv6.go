package proxytest

import (
	"net/netip"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// dualStack adds IPv6 to the world and checks that a Service of both families answers in both.
func dualStack(t *testing.T, w *world) {
	addrs := map[string]string{"a": "fd00:10:244:a::2", "b": "fd00:10:244:b::2"}
	for name, addr := range addrs {
		gw := netip.MustParseAddr(addr).Prev()
		w.node.Address("pod-"+name, netip.PrefixFrom(gw, 64))
		w.pods[name].Address("eth0", netip.PrefixFrom(netip.MustParseAddr(addr), 64))
		w.pods[name].DefaultRoute(gw)
		w.pods[name].ServeTCP("["+addr+"]:8080", name)
		w.pods[name].ServeUDP("["+addr+"]:8080", name)
	}
	w.node.Address("up", netip.MustParsePrefix("2001:db8::2/64"))
	w.outside.Address("up", netip.MustParsePrefix("2001:db8::1/64"))
	w.outside.DefaultRoute(netip.MustParseAddr("2001:db8::2"))
	w.node.DefaultRoute(netip.MustParseAddr("2001:db8::1"))
	w.node.Do(func() {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644); err != nil {
			t.Error(err)
		}
	})
	w.model.SetService(service("web", "10.96.0.1", func(s *corev1.Service) {
		nodePort(30080)(s)
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "fd00:10:96::1")
	}))
	six := slice("web", "b")
	six.Name, six.AddressType = "web-6", discoveryv1.AddressTypeIPv6
	six.Endpoints[0].Addresses = []string{addrs["b"]}
	w.sync()
	refuses(t, w.pods["a"], "tcp", "[fd00:10:96::1]:80")
	refuses(t, w.pods["a"], "udp", "[fd00:10:96::1]:80")
	w.model.SetSlice(slice("web", "b"))
	w.model.SetSlice(six)
	w.sync()
	for _, network := range []string{"tcp", "udp"} {
		answers(t, w.pods["a"], network, "10.96.0.1:80", "b "+podIP("a"))
		answers(t, w.pods["a"], network, "[fd00:10:96::1]:80", "b "+addrs["a"])
		answers(t, w.pods["b"], network, "[fd00:10:96::1]:80", "b fd00:10:244:b::1")
		answers(t, w.outside, network, "[2001:db8::2]:30080", "b fd00:10:244:b::1")
		answers(t, w.node, network, "[fd00:10:96::1]:80", "b fd00:10:244:b::1")
	}
}
