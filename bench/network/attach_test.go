// Package network measures what connecting a pod costs.
//
//	go test -bench . ./bench/network
package network

import (
	"fmt"
	"net/netip"
	"testing"

	"clipper.dev/clipper/internal/netlab"
	"clipper.dev/clipper/internal/network"
)

// BenchmarkAttach is the time that a pod waits for its network.
func BenchmarkAttach(b *testing.B) {
	node := netlab.New(b)
	cfg := network.Config{StateDir: b.TempDir(), NodeName: "node", ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	cfg.Names("bench")
	var n *network.Network
	var err error
	node.Do(func() {
		if n, err = network.New(cfg); err == nil {
			err = n.SetPodCIDRs(b.Context(), cfg.ClusterCIDRs)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	pods := make([]*netlab.Space, b.N)
	for i := range pods {
		pods[i] = netlab.New(b)
	}
	b.ResetTimer()
	for i, pod := range pods {
		if _, err := n.Attach(b.Context(), network.Sandbox{ID: fmt.Sprint(i), NetNS: pod.File}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	for i := range pods {
		if err := n.Detach(b.Context(), fmt.Sprint(i)); err != nil {
			b.Fatal(err)
		}
	}
	if err := n.Close(); err != nil {
		b.Fatal(err)
	}
}
