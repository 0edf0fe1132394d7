package nodeipam

import (
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/exposition/expositiontest"
)

func TestRangesThatAreGivenOutAndBackAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics()
	if err := m.register(&controller.Env{Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	p, err := newPool(netip.MustParsePrefix("10.0.0.0/22"), 24, m)
	if err != nil {
		t.Fatal(err)
	}
	p.occupy("old", netip.MustParsePrefix("10.0.0.0/24"))
	p.occupy("old", netip.MustParsePrefix("10.0.0.0/24"))
	p.allocate("a")
	p.allocate("b")
	p.release("a")
	p.release("a")
	shown := expositiontest.Gather(t, registry)
	for name, want := range map[string]float64{
		"cidrset_cidrs_allocations_total": 3, "cidrset_cidrs_releases_total": 1, "cirdset_max_cidrs": 4, "cidrset_usage_cidrs": 0.5, "cidrset_allocation_tries_per_request": 2,
	} {
		if got := expositiontest.Sum(shown["node_ipam_controller_"+name]); got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
}
