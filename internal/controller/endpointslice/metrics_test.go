package endpointslice

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/exposition/expositiontest"
)

func TestWhatServicesHaveIsCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics()
	if err := m.register(&controller.Env{Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	near := corev1.ServiceTrafficDistributionPreferClose
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}, Spec: corev1.ServiceSpec{TrafficDistribution: &near}}
	m.synced(svc, &plan{added: 150, endpoints: 150, slices: 2, desired: 2}, nil)
	m.synced(svc, &plan{removed: 140, endpoints: 10, slices: 2, desired: 1}, nil)
	check := func(want map[string]float64) {
		t.Helper()
		shown := expositiontest.Gather(t, registry)
		for name, n := range want {
			if got := expositiontest.Sum(shown["endpoint_slice_controller_"+name]); got != n {
				t.Errorf("%s is %v, not %v", name, got, n)
			}
		}
	}
	check(map[string]float64{
		"syncs": 2, "endpoints_added_per_sync": 2, "endpoints_removed_per_sync": 2, "endpointslices_changed_per_sync": 2,
		"num_endpoint_slices": 2, "desired_endpoint_slices": 1, "endpoints_desired": 10, "services_count_by_traffic_distribution": 1,
	})
	m.replace(controller.Key{Namespace: "ns", Name: "web"}, extent{})
	check(map[string]float64{"num_endpoint_slices": 0, "desired_endpoint_slices": 0, "endpoints_desired": 0, "services_count_by_traffic_distribution": 0})
}
