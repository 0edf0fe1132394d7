package webhook

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/admission"
)

// metrics tell how webhooks answer, under upstream's names.
type metrics struct {
	duration *prometheus.HistogramVec
	requests *prometheus.CounterVec
	rejected *prometheus.CounterVec
	open     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_admission_webhook_admission_duration_seconds",
			Help:    "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
			Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 25},
		}, []string{"name", "operation", "rejected", "type"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_admission_webhook_request_total",
			Help: "Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
		}, []string{"code", "name", "operation", "rejected", "type"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_admission_webhook_rejection_count",
			Help: "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
		}, []string{"error_type", "name", "operation", "rejection_code", "type"}),
		open: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_admission_webhook_fail_open_count",
			Help: "Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).",
		}, []string{"name", "type"}),
	}
	reg.MustRegister(m.duration, m.requests, m.rejected, m.open)
	return m
}

// The types of admission.
const (
	stepAdmit    = "admit"
	stepValidate = "validating"
)

// asked counts one call of a webhook.
func (m *metrics) asked(h *registered, step string, op admission.Operation, took time.Duration, err error) {
	code, rejected, kind := 200, err != nil, "apiserver_internal_error"
	var call *errCall
	var denied *errDenied
	switch {
	case errors.As(err, &call):
		code, rejected, kind = call.code, !h.ignore, "calling_webhook_error"
	case errors.As(err, &denied):
		code, kind = int(denied.Status().Code), "no_error"
	case err != nil:
		code = 0
	}
	label, operation := strconv.Itoa(min(code, 600)), string(op)
	if rejected && (call == nil || !errors.Is(call.reason, context.Canceled)) {
		m.rejected.WithLabelValues(kind, h.name, operation, label, step).Inc()
	}
	m.requests.WithLabelValues(label, h.name, operation, strconv.FormatBool(rejected), step).Inc()
	m.duration.WithLabelValues(h.name, operation, strconv.FormatBool(rejected), step).Observe(took.Seconds())
}

func (m *metrics) failedOpen(h *registered, step string) { m.open.WithLabelValues(h.name, step).Inc() }
