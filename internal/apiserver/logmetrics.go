package apiserver

import (
	"crypto/tls"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// logMetrics count requests that kubelets answer.
type logMetrics struct {
	enforced, skipped, failures prometheus.Counter
	sockets                     *prometheus.CounterVec
}

func newLogMetrics(reg *prometheus.Registry) *logMetrics {
	usage := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kube_apiserver_pod_logs_insecure_backend_total", Help: "Total number of requests for pods/logs sliced by usage type: enforce_tls, skip_tls_allowed, skip_tls_denied",
	}, []string{"usage"})
	m := &logMetrics{
		enforced: usage.WithLabelValues("enforce_tls"), skipped: usage.WithLabelValues("skip_tls_allowed"),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kube_apiserver_pod_logs_backend_tls_failure_total", Help: "Total number of requests for pods/logs that failed due to kubelet server TLS verification",
		}),
		sockets: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_websocket_streaming_requests_total",
			Help: "Total number of WebSocket streaming requests (exec/attach/portforward) routed by the API server, labeled by subresource and proxy_type. " +
				"proxy_type is proxied_to_kubelet when the kubelet handles the request directly; otherwise translated_at_apiserver.",
		}, []string{"proxy_type", "subresource"}),
	}
	reg.MustRegister(usage, m.failures, m.sockets)
	return m
}

// asked counts a request for a log.
func (m *logMetrics) asked(insecure bool) {
	if insecure {
		m.skipped.Inc()
		return
	}
	m.enforced.Inc()
}

// failed counts an answer that did not come because the kubelet's certificate is not believed.
func (m *logMetrics) failed(err error) {
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		m.failures.Inc()
	}
}

// streams counts a request for a stream.
func (m *logMetrics) streams(r *http.Request, sub string) {
	if wantsWebSocket(r) {
		m.sockets.WithLabelValues("proxied_to_kubelet", sub).Inc()
	}
}
