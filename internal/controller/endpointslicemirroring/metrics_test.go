package endpointslicemirroring

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	discoveryv1 "k8s.io/api/discovery/v1"

	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/exposition/expositiontest"
)

func TestWhatIsMirroredIsCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics()
	if err := m.register(&controller.Env{Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	key := controller.Key{Namespace: "ns", Name: "db"}
	check := func(want map[string]float64) {
		t.Helper()
		shown := expositiontest.Gather(t, registry)
		for name, n := range want {
			if got := expositiontest.Sum(shown["endpoint_slice_mirroring_controller_"+name]); got != n {
				t.Errorf("%s is %v, not %v", name, got, n)
			}
		}
	}
	m.planned(key, &plan{extent: extent{endpoints: 1500, slices: 2, desired: 2}})
	m.planned(key, &plan{extent: extent{endpoints: 7, slices: 2, desired: 1}})
	check(map[string]float64{
		"endpoints_added_per_sync": 2, "endpoints_updated_per_sync": 2, "endpoints_removed_per_sync": 2, "addresses_skipped_per_sync": 2,
		"endpoints_desired": 7, "num_endpoint_slices": 2, "desired_endpoint_slices": 1,
	})
	m.replace(key, extent{})
	check(map[string]float64{"endpoints_desired": 0, "num_endpoint_slices": 0, "desired_endpoint_slices": 0})
}

func TestEndpointsThatComeGoAndChangeAreToldApart(t *testing.T) {
	endpoint := func(address string, ready bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
	}
	have := []discoveryv1.Endpoint{endpoint("10.0.0.1", true), endpoint("10.0.0.2", true), endpoint("10.0.0.3", true)}
	want := []discoveryv1.Endpoint{endpoint("10.0.0.2", false), endpoint("10.0.0.3", true), endpoint("10.0.0.4", true), endpoint("10.0.0.5", true)}
	if got := compare(have, want); got != (difference{added: 2, updated: 1, removed: 1}) {
		t.Errorf("got %+v", got)
	}
}
