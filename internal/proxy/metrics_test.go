package proxy

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/exposition"
	"clipper.dev/clipper/internal/exposition/expositiontest"
)

// documented and outputs are what expositiontest.Page.Record makes the list from.
var (
	documented = flag.String("documented", "", "test/instrumentation/documentation/documentation-list.yaml of Kubernetes: rewrite the list of its metrics from it")
	outputs    = flag.String("outputs", "", "with -documented: folder of what upstream's components serve, each page in a file by its name")
)

// TestMetricsAreUpstreams has a proxy follow changes, one of which the kernel refuses at first, and looks at what was counted.
func TestMetricsAreUpstreams(t *testing.T) {
	page := expositiontest.Page{List: "testdata/metrics.tsv", Unserved: "testdata/metrics-unserved.yaml", Components: []string{"kube-proxy"}, Endpoint: "/metrics", Only: []string{"kubeproxy_"}}
	if *documented != "" {
		page.Record(t, *documented, *outputs)
	}
	local := testService("web", func(s *corev1.Service) {
		policy := corev1.ServiceInternalTrafficPolicyLocal
		s.Spec.InternalTrafficPolicy = &policy
	})
	c := clienttest.New(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here"}}, local, testSlice("web", "10.0.0.1"), testService("other", nil))
	backend := &recorder{syncs: make(chan []Change)}
	registry := prometheus.NewRegistry()
	metrics, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	shown := exposition.New(registry, time.Now())
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Run(ctx, c, Config{NodeName: "here", Backend: backend, Metrics: metrics}) }()
	<-backend.syncs
	backend.mu.Lock()
	backend.fail = true
	backend.mu.Unlock()
	slice := testSlice("other", "10.0.0.2")
	slice.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Add(time.Minute).Format(time.RFC3339Nano)}
	if _, err := c.Create(ctx, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	untilChange(backend)
	<-backend.syncs // the retry
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}

	byName := expositiontest.Gather(t, shown)
	page.Compare(t, expositiontest.Describe(registry), byName)
	for name, least := range map[string]float64{
		"kubeproxy_sync_proxy_rules_duration_seconds":              3,
		"kubeproxy_sync_full_proxy_rules_duration_seconds":         2, // the first, and what follows a failure
		"kubeproxy_sync_partial_proxy_rules_duration_seconds":      1,
		"kubeproxy_network_programming_duration_seconds":           1,
		"kubeproxy_sync_proxy_rules_nftables_sync_failures_total":  1,
		"kubeproxy_sync_proxy_rules_endpoint_changes_total":        2,
		"kubeproxy_sync_proxy_rules_service_changes_total":         2,
		"kubeproxy_sync_proxy_rules_last_timestamp_seconds":        1,
		"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds": 1,
		"kubeproxy_sync_proxy_rules_no_local_endpoints_total":      1,
	} {
		if got := expositiontest.Sum(byName[name]); got < least {
			t.Errorf("%s is %v in all, not at least %v", name, got, least)
		}
	}
	for _, name := range []string{"kubeproxy_sync_proxy_rules_endpoint_changes_pending", "kubeproxy_sync_proxy_rules_service_changes_pending"} {
		if got := expositiontest.Sum(byName[name]); got != 0 {
			t.Errorf("%s is %v after all has been synced", name, got)
		}
	}
}
