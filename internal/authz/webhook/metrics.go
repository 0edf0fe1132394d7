package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
)

// Metrics measures all authorization webhooks, under upstream's names.
type Metrics struct {
	evaluations, open *prometheus.CounterVec
	duration          *prometheus.HistogramVec

	conditionErrors, exclusions *prometheus.CounterVec
	conditions                  *prometheus.HistogramVec
}

var _ authorizationcel.MatcherMetrics = (*Metrics)(nil)

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
	of := []string{"name", "type"}
	m.conditionErrors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_authorization_match_condition_evaluation_errors_total",
		Help: "Total number of errors when an authorization webhook encounters a match condition error split by authorizer type and name.",
	}, of)
	m.exclusions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_authorization_match_condition_exclusions_total",
		Help: "Total number of exclusions when an authorization webhook is skipped because match conditions exclude it.",
	}, of)
	m.conditions = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "apiserver_authorization_match_condition_evaluation_seconds", Help: "Authorization match condition evaluation time in seconds, split by authorizer type and name.",
		Buckets: []float64{0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25},
	}, of)
	for _, c := range []prometheus.Collector{m.evaluations, m.open, m.duration, m.conditionErrors, m.exclusions, m.conditions} {
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

// RecordAuthorizationMatchConditionEvaluation implements authorizationcel.MatcherMetrics.
func (m *Metrics) RecordAuthorizationMatchConditionEvaluation(_ context.Context, kind, name string, took time.Duration) {
	m.conditions.WithLabelValues(name, kind).Observe(took.Seconds())
}

// RecordAuthorizationMatchConditionEvaluationFailure implements authorizationcel.MatcherMetrics.
func (m *Metrics) RecordAuthorizationMatchConditionEvaluationFailure(_ context.Context, kind, name string) {
	m.conditionErrors.WithLabelValues(name, kind).Inc()
}

// RecordAuthorizationMatchConditionExclusion implements authorizationcel.MatcherMetrics.
func (m *Metrics) RecordAuthorizationMatchConditionExclusion(_ context.Context, kind, name string) {
	m.exclusions.WithLabelValues(name, kind).Inc()
}

func (m *Metrics) failedOpen(name, result string) {
	if m != nil {
		m.open.WithLabelValues(name, result).Inc()
	}
}
