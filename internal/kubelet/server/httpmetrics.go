package server

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// requestMetrics count what the kubelet's API is asked, and what it asks the API server for: who somebody is and what they may.
type requestMetrics struct {
	total    *prometheus.CounterVec
	inflight *prometheus.GaugeVec
	took     *prometheus.HistogramVec

	reviews, accessReviews reviewMetrics
	remaining              prometheus.Histogram // of the lives of clients' certificates
}

// reviewMetrics are about one kind of reviews.
type reviewMetrics struct {
	total *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

func newRequestMetrics(r prometheus.Registerer) *requestMetrics {
	labels := []string{"method", "path", "server_type", "long_running"}
	m := &requestMetrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_http_requests_total", Help: "Number of the http requests received since the server started",
		}, labels),
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubelet_http_inflight_requests", Help: "Number of the inflight http requests"}, labels),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubelet_http_requests_duration_seconds", Help: "Duration in seconds to serve http requests", Buckets: prometheus.DefBuckets,
		}, labels),
		reviews: newReviewMetrics(r, "authn"), accessReviews: newReviewMetrics(r, "authz"),
		remaining: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "apiserver_client_certificate_expiration_seconds", Help: "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
			Buckets: []float64{0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000, 31104000},
		}),
	}
	r.MustRegister(m.total, m.inflight, m.took, m.remaining)
	return m
}

func newReviewMetrics(r prometheus.Registerer, of string) reviewMetrics {
	m := reviewMetrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_delegated_" + of + "_request_total", Help: "Number of HTTP requests partitioned by status code.",
		}, []string{"code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_delegated_" + of + "_request_duration_seconds", Help: "Request latency in seconds. Broken down by status code.",
			Buckets: []float64{0.25, 0.5, 0.7, 1, 1.5, 3, 5, 10},
		}, []string{"code"}),
	}
	r.MustRegister(m.total, m.took)
	return m
}

// answered counts a review.
func (m *reviewMetrics) answered(began time.Time, err error) {
	code := codeOf(err)
	m.total.WithLabelValues(code).Inc()
	m.took.WithLabelValues(code).Observe(time.Since(began).Seconds())
}

// codeOf is the status code of a creation's answer.
func codeOf(err error) string {
	if err == nil {
		return strconv.Itoa(http.StatusCreated)
	}
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return strconv.Itoa(int(status.Status().Code))
	}
	return "<error>"
}

// What upstream counts requests by. Anything else is "other".
var (
	countedMethods = map[string]bool{http.MethodDelete: true, http.MethodGet: true, http.MethodPatch: true, http.MethodPost: true, http.MethodPut: true}
	countedPaths   = map[string]bool{
		"attach": true, "checkpoint": true, "configz": true, "containerLogs": true, "debug": true, "exec": true, "healthz": true, "logs": true,
		"metrics": true, "metrics/cadvisor": true, "metrics/probes": true, "metrics/resource": true, "pods": true, "portForward": true, "run": true,
		"runningpods": true, "stats": true,
	}
	longRunning = map[string]bool{"attach": true, "debug": true, "exec": true}
)

// counted counts the requests to a server.
func (m *requestMetrics) counted(serverType string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method, path := r.Method, rootOf(r.URL.Path)
		if !countedMethods[method] {
			method = "other"
		}
		labels := []string{method, path, serverType, strconv.FormatBool(longRunning[path])}
		m.total.WithLabelValues(labels...).Inc()
		inflight := m.inflight.WithLabelValues(labels...)
		inflight.Inc()
		defer inflight.Dec()
		defer func(began time.Time) { m.took.WithLabelValues(labels...).Observe(time.Since(began).Seconds()) }(time.Now())
		next.ServeHTTP(w, r)
	})
}

// rootOf is the part of a path that requests are counted by.
func rootOf(path string) string {
	root, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if root == "metrics" && rest != "" {
		root += "/" + rest
	}
	if !countedPaths[root] {
		return "other"
	}
	return root
}
