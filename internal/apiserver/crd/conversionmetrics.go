package crd

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// errConversion is a conversion that failed; kind sorts it for metrics.
type errConversion struct {
	kind   string
	reason error
}

func (e *errConversion) Error() string { return e.reason.Error() }
func (e *errConversion) Unwrap() error { return e.reason }

// conversionMetrics tell how webhooks convert, under upstream's names.
type conversionMetrics struct {
	requests  *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	durations *prometheus.HistogramVec
}

func newConversionMetrics(reg prometheus.Registerer) *conversionMetrics {
	m := &conversionMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_conversion_webhook_request_total", Help: "Counter for conversion webhook requests with success/failure and failure error type",
		}, []string{"failure_type", "result"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_conversion_webhook_duration_seconds", Help: "Conversion webhook request latency",
			Buckets: []float64{0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 45, 60},
		}, []string{"failure_type", "result"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_crd_conversion_webhook_duration_seconds", Help: "CRD webhook conversion duration in seconds",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"crd_name", "from_version", "succeeded", "to_version"}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.latency, m.durations)
	}
	return m
}

// converted counts one request to a webhook.
func (m *conversionMetrics) converted(definition, from, to string, took time.Duration, err error) {
	kind, result := "", "success"
	if err != nil {
		result = "failure"
		var failed *errConversion
		if errors.As(err, &failed) {
			kind = failed.kind
		}
	}
	m.requests.WithLabelValues(kind, result).Inc()
	m.latency.WithLabelValues(kind, result).Observe(took.Seconds())
	m.durations.WithLabelValues(definition, from, strconv.FormatBool(err == nil), to).Observe(took.Seconds())
}
