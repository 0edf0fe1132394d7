package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"

	"clipper.dev/clipper/internal/client/remote"
	"clipper.dev/clipper/internal/exposition"
	"clipper.dev/clipper/internal/exposition/expositiontest"
)

// TestAnAgentsMetricsAreUpstreams is about what a joined node's process adds to its kubelet's page.
func TestAnAgentsMetricsAreUpstreams(t *testing.T) {
	page := expositiontest.Page{
		List: "../kubelet/testdata/metrics.tsv", Unserved: "testdata/agent-unserved.yaml", Components: []string{"kubelet"}, Endpoint: "/metrics",
		Only: []string{"kubelet_certificate_manager_", "kubelet_server_expiration_", "rest_client_"},
	}
	registry := prometheus.NewRegistry()
	client, serving := &requestedCert{}, &requestedCert{}
	m := newCertificateMetrics(registry, client, serving)
	remote.NewMetrics(registry)
	shown := exposition.New(registry, time.Now())

	now := time.Now()
	serving.now.Store(&tls.Certificate{Leaf: &x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}})
	m.renewed(certificatesv1.KubeletServingSignerName, serving.since(), nil)
	m.renewed(certificatesv1.KubeletServingSignerName, serving.since(), errors.New("refused"))
	m.renewed(certificatesv1.KubeAPIServerClientKubeletSignerName, client.since(), errors.New("refused"))

	families := expositiontest.Gather(t, shown)
	page.Compare(t, expositiontest.Describe(registry), families)
	for _, name := range []string{
		"kubelet_certificate_manager_server_rotation_seconds", "kubelet_certificate_manager_client_expiration_renew_errors", "kubelet_server_expiration_renew_errors",
	} {
		if got := expositiontest.Sum(families[name]); got != 1 {
			t.Errorf("%s is %v, not 1", name, got)
		}
	}
	if left := expositiontest.Sum(families["kubelet_certificate_manager_server_ttl_seconds"]); left < 3500 || left > 3600 {
		t.Errorf("the serving certificate is good for %v seconds", left)
	}
}
