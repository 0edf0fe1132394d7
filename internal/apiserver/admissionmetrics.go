package apiserver

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/admission"
)

// admissionMetrics tell how long admission takes, under upstream's names.
type admissionMetrics struct {
	steps       *prometheus.HistogramVec
	summaries   *prometheus.SummaryVec
	controllers *prometheus.HistogramVec
}

func newAdmissionMetrics(reg prometheus.Registerer) *admissionMetrics {
	buckets := []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5}
	m := &admissionMetrics{
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_admission_step_admission_duration_seconds",
			Help:    "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
			Buckets: buckets,
		}, []string{"operation", "rejected", "type"}),
		summaries: prometheus.NewSummaryVec(prometheus.SummaryOpts{
			Name:   "apiserver_admission_step_admission_duration_seconds_summary",
			Help:   "Admission sub-step latency summary in seconds, broken out for each operation and API resource and step type (validate or admit).",
			MaxAge: 5 * time.Hour,
		}, []string{"operation", "rejected", "type"}),
		controllers: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_admission_controller_admission_duration_seconds",
			Help:    "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
			Buckets: buckets,
		}, []string{"name", "operation", "rejected", "type"}),
	}
	reg.MustRegister(m.steps, m.summaries, m.controllers)
	return m
}

// step counts a whole step: "admit" or "validate".
func (m *admissionMetrics) step(kind string, op admission.Operation, took time.Duration, rejected bool) {
	r := strconv.FormatBool(rejected)
	m.steps.WithLabelValues(string(op), r, kind).Observe(took.Seconds())
	m.summaries.WithLabelValues(string(op), r, kind).Observe(took.Seconds())
}

// A timedPlugin is a plugin with what its times are counted in.
type timedPlugin[P admission.Plugin] struct {
	plugin P
	// times are by operation and whether the request was refused. They come with their first use, as upstream's do.
	times func(op admission.Operation, rejected bool) prometheus.Observer
}

func timed[P admission.Plugin](m *admissionMetrics, plugin P, kind string) timedPlugin[P] {
	return timedPlugin[P]{plugin, func(op admission.Operation, rejected bool) prometheus.Observer {
		return m.controllers.WithLabelValues(plugin.Name(), string(op), strconv.FormatBool(rejected), kind)
	}}
}

// observe counts a run of the plugin that began at a time, and returns when it ended.
func (t *timedPlugin[P]) observe(op admission.Operation, began time.Time, err error) time.Time {
	now := time.Now()
	t.times(op, err != nil).Observe(now.Sub(began).Seconds())
	return now
}
