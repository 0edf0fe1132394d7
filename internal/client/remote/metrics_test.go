package remote

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/exposition/expositiontest"
)

func TestRequestsAreCounted(t *testing.T) {
	_, c := newFakeAPI(t)
	registry := prometheus.NewRegistry()
	c.cfg.Metrics = NewMetrics(registry)
	c.http.cfg.Metrics = c.cfg.Metrics
	for _, name := range []string{"absent", "busy"} {
		if _, err := client.ConfigMaps.Get(testContext(t), c, "ns", name); err == nil || !apierrors.IsNotFound(err) && !apierrors.IsTooManyRequests(err) {
			t.Fatal(err)
		}
	}
	shown := expositiontest.Gather(t, registry)
	for name, want := range map[string]float64{
		"rest_client_requests_total": 2 + maxRetries, "rest_client_request_retries_total": maxRetries, "rest_client_request_duration_seconds": 2 + maxRetries,
		"rest_client_request_size_bytes": 2 + maxRetries, "rest_client_response_size_bytes": 2 + maxRetries,
		"rest_client_transport_create_calls_total": 1, "rest_client_transport_cache_entries": 1,
	} {
		if got := expositiontest.Sum(shown[name]); got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
}
