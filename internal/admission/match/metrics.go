package match

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/expression"
)

// Of says whose conditions are evaluated, for metrics.
type Of struct {
	Name      string // of the webhook or policy
	Kind      string // "webhook" or "policy"
	Step      string // "admit", "validating" or "validate"
	Operation admission.Operation
}

// conditionMetrics tell how match conditions are evaluated, under upstream's names.
type conditionMetrics struct {
	errors, exclusions *prometheus.CounterVec
	duration           *prometheus.HistogramVec
}

func newConditionMetrics() *conditionMetrics {
	labels := []string{"kind", "name", "operation", "type"}
	return &conditionMetrics{
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_admission_match_condition_evaluation_errors_total",
			Help: "Admission match condition evaluation errors count, identified by name of resource containing the match condition and broken out for each kind containing matchConditions (webhook or policy), operation and admission type (validate or admit).",
		}, labels),
		exclusions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_admission_match_condition_exclusions_total",
			Help: "Admission match condition evaluation exclusions count, identified by name of resource containing the match condition and broken out for each kind containing matchConditions (webhook or policy), operation and admission type (validate or admit).",
		}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_admission_match_condition_evaluation_seconds",
			Help:    "Admission match condition evaluation time in seconds, identified by name and broken out for each kind containing matchConditions (webhook or policy), operation and type (validate or admit).",
			Buckets: []float64{0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25},
		}, labels),
	}
}

// Describe implements prometheus.Collector.
func (m *Matcher) Describe(ch chan<- *prometheus.Desc) {
	m.metrics.errors.Describe(ch)
	m.metrics.exclusions.Describe(ch)
	m.metrics.duration.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *Matcher) Collect(ch chan<- prometheus.Metric) {
	m.metrics.errors.Collect(ch)
	m.metrics.exclusions.Collect(ch)
	m.metrics.duration.Collect(ch)
}

// Met tells whether all conditions are met, and counts.
func (m *Matcher) Met(ctx context.Context, c *Conditions, in *expression.Input, of Of) (bool, error) {
	if c.Empty() {
		return true, nil
	}
	began := time.Now()
	met, err := c.met(ctx, in)
	labels := []string{of.Kind, of.Name, string(of.Operation), of.Step}
	m.metrics.duration.WithLabelValues(labels...).Observe(time.Since(began).Seconds())
	if err != nil {
		m.metrics.errors.WithLabelValues(labels...).Inc()
	} else if !met {
		if of.Step == "validating" {
			labels[3] = "validate" // so upstream calls it here
		}
		m.metrics.exclusions.WithLabelValues(labels...).Inc()
	}
	return met, err
}
