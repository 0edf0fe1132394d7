package cluster

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	certificatesv1 "k8s.io/api/certificates/v1"
)

// certificateMetrics tell how a joined node's certificates fare, under the names of upstream's kubelet.
type certificateMetrics struct {
	clientErrors, servingErrors prometheus.Counter
	lived                       prometheus.Histogram // serving certificates, before they were replaced
}

// newCertificateMetrics makes metrics of two certificates and registers them.
func newCertificateMetrics(r prometheus.Registerer, client, serving *requestedCert) *certificateMetrics {
	left := func(name, help string, of *requestedCert) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_certificate_manager_" + name, Help: help}, of.left)
	}
	const renewals = "Counter of certificate renewal errors."
	m := &certificateMetrics{
		clientErrors:  prometheus.NewCounter(prometheus.CounterOpts{Name: "kubelet_certificate_manager_client_expiration_renew_errors", Help: renewals}),
		servingErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "kubelet_server_expiration_renew_errors", Help: renewals}),
		lived: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "kubelet_certificate_manager_server_rotation_seconds",
			Help:    "Histogram of the number of seconds the previous certificate lived before being rotated.",
			Buckets: []float64{60, 3600, 14400, 86400, 604800, 2592000, 7776000, 15552000, 31104000, 124416000},
		}),
	}
	r.MustRegister(m.clientErrors, m.servingErrors, m.lived,
		left("client_ttl_seconds", "Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds until certificate expiry (negative if already expired). "+
			"If client certificate is invalid or unused, the value will be +INF.", client),
		left("server_ttl_seconds", "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until certificate expiry (negative if already expired). "+
			"If serving certificate is invalid or unused, the value will be +INF.", serving))
	return m
}

// left is how many seconds a certificate is still good for.
func (r *requestedCert) left() float64 {
	cert := r.now.Load()
	if cert == nil {
		return math.Inf(1)
	}
	return time.Until(cert.Leaf.NotAfter).Seconds()
}

// renewed notes what came of the renewal of a certificate, which was good from a time on: the zero time is that there was none.
func (m *certificateMetrics) renewed(signer string, from time.Time, err error) {
	switch serving := signer == certificatesv1.KubeletServingSignerName; {
	case err != nil && serving:
		m.servingErrors.Inc()
	case err != nil:
		m.clientErrors.Inc()
	case serving && !from.IsZero():
		m.lived.Observe(time.Since(from).Seconds())
	}
}

// since is when a certificate became good; the zero time if there is none.
func (r *requestedCert) since() time.Time {
	if cert := r.now.Load(); cert != nil {
		return cert.Leaf.NotBefore
	}
	return time.Time{}
}
