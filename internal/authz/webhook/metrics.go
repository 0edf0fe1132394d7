package webhook

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics measures all authorization webhooks, under upstream's names.
type Metrics struct {
	evaluations, open *prometheus.CounterVec
	duration          *prometheus.HistogramVec
}

// NewMetrics makes and registers the metrics.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	labels := []string{"name", "result"}
	m := &Metrics{
		evaluations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_authorization_webhook_evaluations_total", Help: "Round-trips to authorization webhooks.",
		}, labels),
		open: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_authorization_webhook_evaluations_fail_open_total", Help: "NoOpinion results due to webhook timeout or error.",
		}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_authorization_webhook_duration_seconds", Help: "Request latency in seconds.", Buckets: prometheus.DefBuckets,
		}, labels),
	}
	for _, c := range []prometheus.Collector{m.evaluations, m.open, m.duration} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of authorization webhooks: %w", err)
		}
	}
	return m, nil
}

func (m *Metrics) evaluated(name, result string, took time.Duration) {
	if m == nil {
		return
	}
	m.evaluations.WithLabelValues(name, result).Inc()
	m.duration.WithLabelValues(name, result).Observe(took.Seconds())
}

func (m *Metrics) failedOpen(name, result string) {
	if m != nil {
		m.open.WithLabelValues(name, result).Inc()
	}
}
