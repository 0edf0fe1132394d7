package apiserver

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/apiserver/request"
	"clipper.dev/clipper/internal/exposition"
)

// metrics are the server's, under upstream's names.
type metrics struct {
	handler   http.Handler
	requests  requestMetrics
	reads     *readMetrics
	logs      *logMetrics
	admission *admissionMetrics

	watchers   *prometheus.GaugeVec
	events     *prometheus.CounterVec
	initial    *prometheus.CounterVec // events that watches begin with
	eventSizes *prometheus.HistogramVec
	lists      *prometheus.HistogramVec // that watches begin with
	cut        *prometheus.CounterVec
	deprecated *prometheus.GaugeVec

	attempts     *prometheus.CounterVec // of authentication
	attemptTimes *prometheus.HistogramVec
	succeeded    lazy[attemptSeries]
	users        *prometheus.CounterVec
	usersFound   [len(users)]lazy[prometheus.Counter]
	decisions    [4]prometheus.Counter // of authorization, by outcome
	decisionTime [4]prometheus.Observer
	passing      [filters]prometheus.Observer // how long it took to pass each filter

	stored     *prometheus.CounterVec
	storeTimes *prometheus.HistogramVec
	failures   *prometheus.CounterVec // of etcd

	aggregations prometheus.Counter // of discovery
}

func newMetrics(reg *prometheus.Registry, started time.Time) *metrics {
	m := &metrics{requests: newRequestMetrics(reg), reads: newReadMetrics(reg), logs: newLogMetrics(reg), admission: newAdmissionMetrics(reg)}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		reg.MustRegister(g)
		return g
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		reg.MustRegister(h)
		return h
	}
	m.watchers = gauge("apiserver_longrunning_requests",
		"Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
		"component", "group", "resource", "scope", "subresource", "verb", "version")
	m.events = counter("apiserver_watch_events_total", "Number of events sent in watch clients", "group", "resource", "version")
	m.initial = counter("apiserver_init_events_total", "Counter of init events processed in watch cache broken by resource type.", "group", "resource")
	m.eventSizes = histogram("apiserver_watch_events_sizes", "Watch event size distribution in bytes", prometheus.ExponentialBuckets(1024, 2, 8), "group", "resource", "version")
	m.lists = histogram("apiserver_watch_list_duration_seconds", "Response latency distribution in seconds for watch list requests broken by group, version, resource and scope.",
		[]float64{0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 15, 20, 30, 45, 60}, "group", "resource", "scope", "version")
	m.cut = counter("apiserver_terminated_watchers_total", "Counter of watchers closed due to unresponsiveness broken by resource type.", "group", "resource")
	m.deprecated = gauge("apiserver_requested_deprecated_apis",
		"Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
		"group", "removed_release", "resource", "subresource", "version")
	times := prometheus.ExponentialBuckets(0.001, 2, 15)
	m.attempts = counter("authentication_attempts", "Counter of authenticated attempts.", "result")
	m.attemptTimes = histogram("authentication_duration_seconds", "Authentication duration in seconds broken out by result.", times, "result")
	m.users = counter("authenticated_user_requests", "Counter of authenticated requests broken out by username.", "username")
	decisions := counter("authorization_attempts_total", "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.", "result")
	decisionTimes := histogram("authorization_duration_seconds", "Authorization duration in seconds broken out by result.", times, "result")
	for i, result := range []string{"allowed", "denied", "no-opinion", "error"} {
		m.decisions[i], m.decisionTime[i] = decisions.WithLabelValues(result), decisionTimes.WithLabelValues(result)
	}
	passing := histogram("apiserver_request_filter_duration_seconds", "Request filter latency distribution in seconds, for each filter type",
		[]float64{0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 5, 10, 15, 30}, "filter")
	for f, name := range []string{"authentication", "audit", "constrainedimpersonation", "priorityandfairness", "authorization"} {
		m.passing[f] = passing.WithLabelValues(name)
	}
	m.stored = counter("etcd_requests_total", "Etcd request counts for each operation and object type.", "group", "operation", "resource")
	m.storeTimes = histogram("etcd_request_duration_seconds", "Etcd request latency in seconds for each operation and object type.",
		[]float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}, "group", "operation", "resource")
	m.failures = counter("etcd_request_errors_total", "Etcd failed request counts for each operation and object type.", "group", "operation", "resource")
	m.aggregations = prometheus.NewCounter(prometheus.CounterOpts{Name: "aggregator_discovery_aggregation_count_total", Help: "Counter of number of times discovery was aggregated"})
	reg.MustRegister(m.aggregations)
	m.handler = exposition.New(reg, started)
	return m
}

// lasting counts a request in that lasts long, and returns what counts it out.
func (m *metrics) lasting(r *http.Request, info *request.Info) func() {
	scope := scopeLabel(info)
	g := m.watchers.WithLabelValues(serverComponent, info.Group, info.Resource, scope, info.Subresource, verbLabel(r, info, scope), info.Version)
	g.Inc()
	return g.Dec
}

// eventMetrics are those of one kind's watch events.
type eventMetrics struct {
	count prometheus.Counter
	sizes prometheus.Observer
}

func (m *metrics) watchEvents(v *version) *eventMetrics {
	return &eventMetrics{m.events.WithLabelValues(v.gvr.Group, v.gvr.Resource, v.gvr.Version), m.eventSizes.WithLabelValues(v.gvr.Group, v.gvr.Resource, v.gvr.Version)}
}

// watchBegan counts the objects that a watch began with.
func (m *metrics) watchBegan(v *version, objects int) {
	if objects > 0 {
		m.initial.WithLabelValues(v.gvr.Group, v.gvr.Resource).Add(float64(objects))
	}
}

func (m *metrics) watchListed(v *version, namespace string, took time.Duration) {
	scope := "cluster"
	if namespace != "" {
		scope = "namespace"
	}
	m.lists.WithLabelValues(v.gvr.Group, v.gvr.Resource, scope, v.gvr.Version).Observe(took.Seconds())
}

func (m *metrics) watchCut(v *version) { m.cut.WithLabelValues(v.gvr.Group, v.gvr.Resource).Inc() }

func (m *metrics) deprecatedUse(v *version, sub string) {
	m.deprecated.WithLabelValues(v.gvr.Group, removedRelease(v.api.Deprecated), v.gvr.Resource, sub, v.gvr.Version).Set(1)
}

// attemptSeries are where attempts to find out who asks are counted that had the same result.
type attemptSeries struct {
	count prometheus.Counter
	times prometheus.Observer
}

func (m *metrics) attemptsWith(result string) attemptSeries {
	return attemptSeries{m.attempts.WithLabelValues(result), m.attemptTimes.WithLabelValues(result)}
}

func (s attemptSeries) add(took time.Duration) {
	s.count.Inc()
	s.times.Observe(took.Seconds())
}

// authenticated counts a request of somebody who was recognized.
func (m *metrics) authenticated(name string, took time.Duration) {
	m.succeeded.get(func() attemptSeries { return m.attemptsWith("success") }).add(took)
	i := userSort(name)
	m.usersFound[i].get(func() prometheus.Counter { return m.users.WithLabelValues(users[i]) }).Inc()
}

// unauthenticated counts one of a stranger.
func (m *metrics) unauthenticated(err error, took time.Duration) {
	result := "failure"
	if err != nil {
		result = "error"
	}
	m.attemptsWith(result).add(took)
}

// authorization counts a decision.
func (m *metrics) authorization(d authorizer.Decision, err error, took time.Duration) {
	i := 2
	switch {
	case d == authorizer.DecisionAllow:
		i = 0
	case err != nil:
		i = 3
	case d == authorizer.DecisionDeny:
		i = 1
	}
	m.decisions[i].Inc()
	m.decisionTime[i].Observe(took.Seconds())
}

// A filter is what a request has to pass before it's served, in this order.
type filter int

const (
	authenticating filter = iota
	auditing
	impersonating
	queueing
	authorizing
	filters
)

// passed counts that a request which came to a filter at a time has passed it, and returns when.
func (m *metrics) passed(f filter, came time.Time) time.Time {
	now := time.Now()
	m.passing[f].Observe(now.Sub(came).Seconds())
	return now
}
