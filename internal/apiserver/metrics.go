package apiserver

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"clipper.dev/clipper/internal/apiserver/request"
)

// metrics are the server's, under upstream's names.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	sizes    *prometheus.HistogramVec
	watchers *prometheus.GaugeVec
	events   *prometheus.CounterVec
	cut      *prometheus.CounterVec
	authn    *prometheus.CounterVec
}

func newMetrics(reg *prometheus.Registry) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total",
			Help: "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
		}, []string{"code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_request_duration_seconds",
			Help:    "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60},
		}, []string{"component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"}),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_response_sizes",
			Help:    "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
			Buckets: prometheus.ExponentialBuckets(1000, 10, 7),
		}, []string{"component", "group", "resource", "scope", "subresource", "verb", "version"}),
		watchers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_longrunning_requests",
			Help: "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
		}, []string{"component", "group", "resource", "scope", "subresource", "verb", "version"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_watch_events_total", Help: "Number of events sent in watch clients",
		}, []string{"group", "resource", "version"}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_terminated_watchers_total", Help: "Counter of watchers closed due to unresponsiveness broken by resource type.",
		}, []string{"group", "resource"}),
		authn: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authentication_attempts", Help: "Counter of authenticated attempts.",
		}, []string{"result"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.sizes, m.watchers, m.events, m.cut, m.authn} {
		reg.MustRegister(c)
	}
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	return m
}

// request counts a served request. Only what the catalog knows becomes a label, so that clients can't make up series.
func (m *metrics) request(info *request.Info, known, dry bool, w *response) {
	verb, group, version, resource, sub, scope := "other", "", "", "", "", ""
	if known {
		group, version, resource, sub = info.Group, info.Version, info.Resource, info.Subresource
		verb, scope = verbLabel(info), scopeLabel(info)
	}
	dryRun := ""
	if known && dry {
		dryRun = "All"
	}
	m.requests.WithLabelValues(strconv.Itoa(w.code), "apiserver", dryRun, group, resource, scope, sub, verb, version).Inc()
	if longRunning(info) {
		return
	}
	m.duration.WithLabelValues("apiserver", dryRun, group, resource, scope, sub, verb, version).Observe(time.Since(w.received).Seconds())
	if verb == "GET" || verb == "LIST" {
		m.sizes.WithLabelValues("apiserver", group, resource, scope, sub, verb, version).Observe(float64(w.bytes))
	}
}

// verbLabel is upstream's name of a verb in metrics.
func verbLabel(info *request.Info) string {
	switch info.Verb {
	case "create":
		return "POST"
	case "update":
		return "PUT"
	case "get", "list", "watch", "patch", "delete", "deletecollection":
		if info.Subresource == "log" || info.Subresource == "exec" || info.Subresource == "attach" || info.Subresource == "portforward" || info.Subresource == "proxy" {
			return "CONNECT"
		}
		return upper[info.Verb]
	}
	return "other"
}

var upper = map[string]string{
	"get": "GET", "list": "LIST", "watch": "WATCH", "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETECOLLECTION",
}

func scopeLabel(info *request.Info) string {
	switch {
	case info.Name != "" || info.Verb == "create":
		return "resource"
	case info.Namespace != "":
		return "namespace"
	case info.IsResource:
		return "cluster"
	}
	return ""
}

// watching counts a watch in and returns what counts it out.
func (m *metrics) watching(v *version) func() {
	g := m.watchers.WithLabelValues("apiserver", v.gvr.Group, v.gvr.Resource, "cluster", "", "WATCH", v.gvr.Version)
	g.Inc()
	return g.Dec
}

func (m *metrics) watchEvents(v *version) prometheus.Counter {
	return m.events.WithLabelValues(v.gvr.Group, v.gvr.Resource, v.gvr.Version)
}

func (m *metrics) watchCut(v *version) { m.cut.WithLabelValues(v.gvr.Group, v.gvr.Resource).Inc() }

func (m *metrics) authentication(result string) { m.authn.WithLabelValues(result).Inc() }

// knows tells whether the catalog serves what a request names.
func (s *Server) knows(info *request.Info) bool {
	if !info.IsResource {
		return false
	}
	v, ok := s.catalog.Load().lookup(info.GroupVersionResource())
	return ok && (info.Subresource == "" || v.serves(info.Subresource))
}
