package encryption

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/status"
)

// Metrics measures what KMS plugins do, under upstream's names.
type Metrics struct {
	server                 string
	used                   *prometheus.CounterVec
	lastUsed, lastReported *prometheus.GaugeVec
	invalid                *prometheus.CounterVec
	latency                *prometheus.HistogramVec
}

// NewMetrics makes and registers the metrics; server is this API server's identity.
func NewMetrics(r prometheus.Registerer, server string) (*Metrics, error) {
	const prefix = "apiserver_envelope_encryption_"
	labels := []string{"transformation_type", "provider_name", "key_id_hash", "apiserver_id_hash"}
	m := &Metrics{
		server: hash(server),
		used: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "key_id_hash_total", Help: "Number of times a keyID is used split by transformation type, provider, and apiserver identity.",
		}, labels),
		lastUsed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "key_id_hash_last_timestamp_seconds", Help: "The last time in seconds when a keyID was used.",
		}, labels),
		lastReported: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "key_id_hash_status_last_timestamp_seconds", Help: "The last time in seconds when a keyID was returned by the Status RPC call.",
		}, []string{"provider_name", "key_id_hash", "apiserver_id_hash"}),
		invalid: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "invalid_key_id_from_status_total", Help: "Number of times an invalid keyID is returned by the Status RPC call split by error.",
		}, []string{"provider_name", "error"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "kms_operations_latency_seconds", Help: "KMS operation duration with gRPC error code status total.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 19),
		}, []string{"provider_name", "method_name", "grpc_status_code"}),
	}
	for _, c := range []prometheus.Collector{m.used, m.lastUsed, m.lastReported, m.invalid, m.latency} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of encryption: %w", err)
		}
	}
	return m, nil
}

func (m *Metrics) usedKey(direction, provider, keyID string) {
	if m == nil {
		return
	}
	m.used.WithLabelValues(direction, provider, hash(keyID), m.server).Inc()
	m.lastUsed.WithLabelValues(direction, provider, hash(keyID), m.server).SetToCurrentTime()
}

func (m *Metrics) reportedKey(provider, keyID string) {
	if m != nil {
		m.lastReported.WithLabelValues(provider, hash(keyID), m.server).SetToCurrentTime()
	}
}

func (m *Metrics) invalidKey(provider, keyID string) {
	if m == nil {
		return
	}
	reason := "empty"
	if keyID != "" {
		reason = "too_long"
	}
	m.invalid.WithLabelValues(provider, reason).Inc()
}

func (m *Metrics) called(provider, method string, err error, took time.Duration) {
	if m != nil {
		m.latency.WithLabelValues(provider, "/v2.KeyManagementService/"+method, status.Code(err).String()).Observe(took.Seconds())
	}
}

func hash(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s)))
}
