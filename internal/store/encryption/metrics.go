package encryption

import (
	"crypto/sha256"
	"fmt"
	"sync"
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

	operations          *prometheus.CounterVec
	times               *prometheus.HistogramVec
	keyTimes            prometheus.Histogram
	keyFailures, misses prometheus.Counter
	keysCached          *prometheus.GaugeVec
	series              sync.Map // transformation → *transformationSeries
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
	m.addTransformations()
	for _, c := range []prometheus.Collector{
		m.used, m.lastUsed, m.lastReported, m.invalid, m.latency, m.operations, m.times, m.keyTimes, m.keyFailures, m.misses, m.keysCached,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of encryption: %w", err)
		}
	}
	return m, nil
}

// addTransformations makes the metrics of all providers.
func (m *Metrics) addTransformations() {
	const prefix = "apiserver_storage_"
	m.operations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "transformation_operations_total",
		Help: "Total number of transformations. Successful transformation will have a status 'OK' and a varied status string when the transformation fails. " +
			"The status, resource, and transformation_type fields can be used for alerting purposes. For example, you can monitor for encryption/decryption failures " +
			"using the transformation_type (e.g., from_storage for decryption and to_storage for encryption). Additionally, these fields can be used to ensure that " +
			"the correct transformers are applied to each resource.",
	}, []string{"resource", "status", "transformation_type", "transformer_prefix"})
	m.times = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: prefix + "transformation_duration_seconds", Help: "Latencies in seconds of value transformation operations.", Buckets: prometheus.ExponentialBuckets(5e-6, 2, 25),
	}, []string{"transformation_type", "transformer_prefix"})
	m.keyTimes = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: prefix + "data_key_generation_duration_seconds", Help: "Latencies in seconds of data encryption key(DEK) generation operations.",
		Buckets: prometheus.ExponentialBuckets(5e-6, 2, 14),
	})
	m.keyFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: prefix + "data_key_generation_failures_total", Help: "Total number of failed data encryption key(DEK) generation operations.",
	})
	m.misses = prometheus.NewCounter(prometheus.CounterOpts{
		Name: prefix + "envelope_transformation_cache_misses_total", Help: "Total number of cache misses while accessing key decryption key(KEK).",
	})
	m.keysCached = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "apiserver_envelope_encryption_dek_source_cache_size",
		Help: "Number of records in data encryption key (DEK) source cache. On a restart, this value is an approximation of the number of decrypt RPC calls " +
			"the server will make to the KMS plugin.",
	}, []string{"provider_name"})
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
