package apiserver

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/admission"
)

// admissionMetrics tell how long admission takes, under upstream's names.
type admissionMetrics struct {
	admit, validate stepTimes
	controllers     *prometheus.HistogramVec
}

// stepTimes are those of a whole step.
type stepTimes struct{ histogram, summary *outcomes }

func newAdmissionMetrics(reg prometheus.Registerer) *admissionMetrics {
	buckets := []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5}
	steps := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "apiserver_admission_step_admission_duration_seconds",
		Help:    "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
		Buckets: buckets,
	}, []string{"operation", "rejected", "type"})
	summaries := prometheus.NewSummaryVec(prometheus.SummaryOpts{
		Name:   "apiserver_admission_step_admission_duration_seconds_summary",
		Help:   "Admission sub-step latency summary in seconds, broken out for each operation and API resource and step type (validate or admit).",
		MaxAge: 5 * time.Hour, Objectives: map[float64]float64{0.5: 0.05, 0.9: 0.01, 0.99: 0.001},
	}, []string{"operation", "rejected", "type"})
	times := func(kind string) stepTimes { return stepTimes{outcomesOf(steps, kind), outcomesOf(summaries, kind)} }
	m := &admissionMetrics{
		admit: times("admit"), validate: times("validate"),
		controllers: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_admission_controller_admission_duration_seconds",
			Help:    "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
			Buckets: buckets,
		}, []string{"name", "operation", "rejected", "type"}),
	}
	reg.MustRegister(steps, summaries, m.controllers)
	return m
}

// observe counts a run of the step.
func (s stepTimes) observe(op admission.Operation, took time.Duration, rejected bool) {
	seconds := took.Seconds()
	s.histogram.of(op, rejected).Observe(seconds)
	s.summary.of(op, rejected).Observe(seconds)
}

// outcomes are observers by operation and whether the request was refused.
type outcomes struct {
	vec    prometheus.ObserverVec
	before []string // the values of the labels before those of an outcome
	kind   string
	found  [4][2]lazy[prometheus.Observer]
}

func outcomesOf(vec prometheus.ObserverVec, kind string, before ...string) *outcomes {
	return &outcomes{vec: vec, kind: kind, before: before}
}

func (o *outcomes) of(op admission.Operation, rejected bool) prometheus.Observer {
	place := &o.found[operationIndex(op)]
	at := &place[0]
	if rejected {
		at = &place[1]
	}
	return at.get(func() prometheus.Observer {
		return o.vec.WithLabelValues(slices.Concat(o.before, []string{string(op), strconv.FormatBool(rejected), o.kind})...)
	})
}

func operationIndex(op admission.Operation) int {
	switch op {
	case admission.Create:
		return 0
	case admission.Update:
		return 1
	case admission.Delete:
		return 2
	}
	return 3 // CONNECT
}

// A timedPlugin is a plugin with the operations that it handles and what its times are counted in.
type timedPlugin[P admission.Plugin] struct {
	plugin  P
	handles [4]bool   // by operationIndex
	times   *outcomes // nil if they are not counted
}

func timed[P admission.Plugin](m *admissionMetrics, plugin P, kind string) timedPlugin[P] {
	t := timedPlugin[P]{plugin: plugin}
	if name := plugin.Name(); name != "" {
		t.times = outcomesOf(m.controllers, kind, name)
	}
	for _, op := range []admission.Operation{admission.Create, admission.Update, admission.Delete, admission.Connect} {
		some, selective := any(plugin).(admission.Selective)
		t.handles[operationIndex(op)] = !selective || some.Handles(op)
	}
	return t
}

// observe counts a run of the plugin that began at a time, and returns when it ended.
func (t *timedPlugin[P]) observe(op admission.Operation, began time.Duration, err error) time.Duration {
	now := monotonic()
	if t.times == nil {
		return now
	}
	t.times.of(op, err != nil).Observe((now - began).Seconds())
	return now
}

var start = time.Now()

// monotonic is the time since the process began, for half of what time.Now costs: a write looks at the clock some dozens of times.
func monotonic() time.Duration { return time.Since(start) }
