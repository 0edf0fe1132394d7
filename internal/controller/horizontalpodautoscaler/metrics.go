package horizontalpodautoscaler

import (
	"errors"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/prometheus/client_golang/prometheus"
)

// What a round did.
const (
	actionNone = "none"
	actionUp   = "scale_up"
	actionDown = "scale_down"
)

// metrics are upstream's, by name and labels.
type metrics struct {
	reconciliations, computations               *prometheus.CounterVec
	reconciliationDuration, computationDuration *prometheus.HistogramVec
	count                                       prometheus.Gauge
	desired                                     *prometheus.GaugeVec
	all                                         []prometheus.Collector
}

func newMetrics() *metrics {
	const subsystem = "horizontal_pod_autoscaler_controller"
	const labels = " The label 'action' should be either 'scale_down', 'scale_up', or 'none'. Also, the label 'error' should be either 'spec', 'internal', or 'none'."
	const first = labels + " Note that if both spec and internal errors happen during a reconciliation, the first one to occur is reported in `error` label."
	buckets := prometheus.ExponentialBuckets(0.001, 2, 15)
	m := &metrics{
		reconciliations: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "reconciliations_total",
			Help: "Number of reconciliations of HPA controller." + first}, []string{"action", "error"}),
		reconciliationDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: "reconciliation_duration_seconds", Buckets: buckets,
			Help: "The time(seconds) that the HPA controller takes to reconcile once." + first}, []string{"action", "error"}),
		computations: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "metric_computation_total",
			Help: "Number of metric computations." + labels + " The label 'metric_type' corresponds to HPA.spec.metrics[*].type"}, []string{"action", "error", "metric_type"}),
		computationDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: "metric_computation_duration_seconds", Buckets: buckets,
			Help: "The time(seconds) that the HPA controller takes to calculate one metric." +
				" The label 'action' should be either 'scale_down', 'scale_up', or 'none'. The label 'error' should be either 'spec', 'internal', or 'none'." +
				" The label 'metric_type' corresponds to HPA.spec.metrics[*].type"},
			[]string{"action", "error", "metric_type"}),
		count: prometheus.NewGauge(prometheus.GaugeOpts{Subsystem: subsystem, Name: "num_horizontal_pod_autoscalers", Help: "Current number of controlled HPA objects."}),
		desired: prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: subsystem, Name: "desired_replicas", Help: "Current desired replica count for HPA objects."},
			[]string{"namespace", "hpa_name"}),
	}
	m.all = []prometheus.Collector{m.reconciliations, m.reconciliationDuration, m.computations, m.computationDuration, m.count, m.desired}
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, c := range m.all {
		c.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(out)
	}
}

func (m *metrics) reconciled(action string, err error, took time.Duration) {
	m.reconciliations.WithLabelValues(action, errorLabel(err)).Inc()
	m.reconciliationDuration.WithLabelValues(action, errorLabel(err)).Observe(took.Seconds())
}

// computed counts the evaluation of a metric, by what it proposes.
func (m *metrics) computed(spec *autoscalingv2.MetricSpec, p *proposal, current int32, no *refusal, took time.Duration) {
	action, label := actionNone, "none"
	switch {
	case no != nil:
		label = errorLabel(no.err)
	case p.replicas > current:
		action = actionUp
	case p.replicas < current:
		action = actionDown
	}
	m.computations.WithLabelValues(action, label, string(spec.Type)).Inc()
	m.computationDuration.WithLabelValues(action, label, string(spec.Type)).Observe(took.Seconds())
}

func errorLabel(err error) string {
	switch {
	case err == nil:
		return "none"
	case errors.Is(err, errSpec):
		return "spec"
	}
	return "internal"
}
