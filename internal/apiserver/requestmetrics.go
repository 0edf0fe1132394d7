package apiserver

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/apiserver/request"
)

// requestMetrics count served requests. What is counted in is looked up once for all requests of a sort.
type requestMetrics struct {
	total      *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	sli        *prometheus.HistogramVec
	sizes      *prometheus.HistogramVec
	bodies     *prometheus.HistogramVec
	validation *prometheus.HistogramVec
	checked    *[3]lazy[prometheus.Observer] // of validation, in the order of directives
	ended      *prometheus.CounterVec        // terminations
	aborts     *prometheus.CounterVec

	series *sync.Map // requestSort → *requestSeries
}

// requestSeries are where the requests of a sort are counted.
type requestSeries struct {
	duration, sli prometheus.Observer
	size          prometheus.Observer // nil for what writes
	body          lazy[prometheus.Observer]
	codes         sync.Map // int → prometheus.Counter
}

func newRequestMetrics(reg *prometheus.Registry) requestMetrics {
	long := []float64{0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}
	m := requestMetrics{
		series: &sync.Map{}, checked: &[3]lazy[prometheus.Observer]{},
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total",
			Help: "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
		}, []string{"code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_request_duration_seconds",
			Help:    "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
			Buckets: append([]float64{0.005, 0.025}, long...),
		}, []string{"component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"}),
		sli: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_request_sli_duration_seconds",
			Help:    "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
			Buckets: long,
		}, []string{"component", "group", "resource", "scope", "subresource", "verb", "version"}),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_response_sizes",
			Help:    "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
			Buckets: prometheus.ExponentialBuckets(1000, 10, 7),
		}, []string{"component", "group", "resource", "scope", "subresource", "verb", "version"}),
		bodies: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_request_body_size_bytes",
			Help:    "Apiserver request body size in bytes broken out by resource and verb.",
			Buckets: prometheus.LinearBuckets(50000, 100000, 31),
		}, []string{"group", "resource", "verb"}),
		validation: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "field_validation_request_duration_seconds",
			Help:    "Response latency distribution in seconds for each field validation value",
			Buckets: long,
		}, []string{"field_validation"}),
	}
	m.ended = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_request_terminations_total", Help: "Number of requests which apiserver terminated in self-defense.",
	}, []string{"code", "component", "group", "resource", "scope", "subresource", "verb", "version"})
	m.aborts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_request_aborts_total",
		Help: "Number of requests which apiserver aborted possibly due to a timeout, for each group, version, verb, resource, subresource and scope",
	}, []string{"group", "resource", "scope", "subresource", "verb", "version"})
	reg.MustRegister(m.total, m.duration, m.sli, m.sizes, m.bodies, m.validation, m.ended, m.aborts)
	return m
}

// request counts a request that has been answered. One that reached nothing that serves such requests is not among those that are counted, as with
// upstream: clients can't make up series. (Those that were not recognized or not allowed are counted where that is decided.)
func (m *metrics) request(r *http.Request, info *request.Info, known bool, w *response) {
	if w.terminated != "" {
		m.requests.terminated(r, info, known, w)
	}
	sort := w.sort
	if sort.verb == "" {
		return
	}
	sort.dry = dryRunLabel(r.URL)
	s := m.requests.of(sort)
	s.code(&m.requests, sort, w.code).Inc()
	took := time.Since(w.received)
	s.duration.Observe(took.Seconds())
	if sort.dry == "" && info.Verb != "watch" {
		s.sli.Observe(max(0, took-w.call.spent.elsewhere()).Seconds())
	}
	if s.size != nil {
		s.size.Observe(float64(w.bytes))
	}
	if sort.resource != "" {
		m.requests.body(s, info, r.URL.RawQuery, w.call, took)
	}
}

// terminated counts a request that was given up to protect the server.
func (m *requestMetrics) terminated(r *http.Request, info *request.Info, known bool, w *response) {
	sort := requestSort{component: w.terminated, scope: scopeLabel(info)}
	sort.verb = verbLabel(r, info, sort.scope)
	if known || info.IsResource && w.terminated == aggregatorComponent {
		sort.group, sort.version, sort.resource, sort.sub = info.Group, info.Version, info.Resource, info.Subresource
	}
	if dropped := w.code == http.StatusTooManyRequests; dropped && (known || !info.IsResource) {
		dry := dryRunLabel(r.URL)
		m.total.WithLabelValues(strconv.Itoa(w.code), sort.component, dry, sort.group, sort.resource, sort.scope, sort.sub, sort.verb, sort.version).Inc()
	}
	if !info.IsResource && w.terminated == aggregatorComponent {
		sort.sub = info.Path
	}
	m.ended.WithLabelValues(strconv.Itoa(w.code), sort.component, sort.group, sort.resource, sort.scope, sort.sub, sort.verb, sort.version).Inc()
}

// aborted counts a request whose handler broke off.
func (m *requestMetrics) aborted(r *http.Request, info *request.Info, known bool) {
	sort := requestSort{scope: scopeLabel(info)}
	sort.verb = verbLabel(r, info, sort.scope)
	if known {
		sort.group, sort.version, sort.resource, sort.sub = info.Group, info.Version, info.Resource, info.Subresource
	}
	m.aborts.WithLabelValues(sort.group, sort.resource, sort.scope, sort.sub, sort.verb, sort.version).Inc()
}

func (m *requestMetrics) of(sort requestSort) *requestSeries {
	if s, ok := m.series.Load(sort); ok {
		return s.(*requestSeries)
	}
	s := &requestSeries{
		duration: m.duration.WithLabelValues(sort.component, sort.dry, sort.group, sort.resource, sort.scope, sort.sub, sort.verb, sort.version),
		sli:      m.sli.WithLabelValues(sort.component, sort.group, sort.resource, sort.scope, sort.sub, sort.verb, sort.version),
	}
	if sort.sized {
		s.size = m.sizes.WithLabelValues(sort.component, sort.group, sort.resource, sort.scope, sort.sub, sort.verb, sort.version)
	}
	out, _ := m.series.LoadOrStore(sort, s)
	return out.(*requestSeries)
}

func (s *requestSeries) code(m *requestMetrics, sort requestSort, code int) prometheus.Counter {
	if c, ok := s.codes.Load(code); ok {
		return c.(prometheus.Counter)
	}
	c := m.total.WithLabelValues(strconv.Itoa(code), sort.component, sort.dry, sort.group, sort.resource, sort.scope, sort.sub, sort.verb, sort.version)
	s.codes.Store(code, c)
	return c
}

// body counts what a request brought, and how long it took by how its fields were checked.
func (m *requestMetrics) body(s *requestSeries, info *request.Info, query string, c *call, took time.Duration) {
	verb := info.Verb
	switch verb {
	case "create", "update", "patch", "delete":
	case "deletecollection":
		verb = "delete_collection"
	default:
		return
	}
	if c.read {
		s.body.get(func() prometheus.Observer { return m.bodies.WithLabelValues(info.Group, info.Resource, verb) }).Observe(float64(c.received))
	}
	if verb == "delete" || verb == "delete_collection" {
		return
	}
	i := fieldValidation(query)
	m.checked[i].get(func() prometheus.Observer { return m.validation.WithLabelValues(directives[i]) }).Observe(took.Seconds())
}

// directives are the ways in which a request's fields are checked; the first one is the default.
var directives = [3]string{"Warn", "Ignore", "Strict"}

// fieldValidation is the directive that a request asks for.
func fieldValidation(query string) int {
	if strings.Contains(query, "fieldValidation=") {
		if values, err := url.ParseQuery(query); err == nil {
			return max(0, slices.Index(directives[:], values.Get("fieldValidation")))
		}
	}
	return 0
}

// users are the sorts of users that are told apart, so that their names don't become series.
var users = [...]string{"other", "email_id", "admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"}

// userSort is a user's place among them.
func userSort(name string) int {
	if i := slices.Index(users[2:], name); i >= 0 {
		return i + 2
	}
	if strings.Contains(name, "@") {
		return 1
	}
	return 0
}

// knows tells whether the catalog serves what a request names.
func (s *Server) knows(info *request.Info) bool {
	if !info.IsResource {
		return false
	}
	v, ok := s.catalog.Load().lookup(info.GroupVersionResource())
	return ok && (info.Subresource == "" || v.serves(info.Subresource))
}
