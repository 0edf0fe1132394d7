package remote

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are about requests to the API, under the names that client-go has for them. A nil *Metrics is silent.
type Metrics struct {
	requests, retries    *prometheus.CounterVec
	took, sent, received *prometheus.HistogramVec
	transports           *prometheus.CounterVec
	held                 prometheus.Gauge
}

// NewMetrics makes metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	sizes := []float64{64, 256, 512, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rest_client_" + name, Help: help, Buckets: buckets}, []string{"verb", "host"})
	}
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rest_client_requests_total", Help: "Number of HTTP requests, partitioned by status code, method, and host.",
		}, []string{"code", "method", "host"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rest_client_request_retries_total", Help: "Number of request retries, partitioned by status code, verb, and host.",
		}, []string{"code", "verb", "host"}),
		took: histogram("request_duration_seconds", "Request latency in seconds. Broken down by verb, and host.",
			[]float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60}),
		sent:     histogram("request_size_bytes", "Request size in bytes. Broken down by verb and host.", sizes),
		received: histogram("response_size_bytes", "Response size in bytes. Broken down by verb and host.", sizes),
		transports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rest_client_transport_create_calls_total",
			Help: "Number of calls to get a new transport, partitioned by the result of the operation hit: obtained from the cache, miss: created and added to the cache, " +
				"miss-gc: recreated and added back to the cache after being garbage collected, uncacheable: created and not cached",
		}, []string{"result"}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{Name: "rest_client_transport_cache_entries", Help: "Number of transport entries in the internal cache."}),
	}
	r.MustRegister(m.requests, m.retries, m.took, m.sent, m.received, m.transports, m.held)
	return m
}

// exchanged notes a request with a body of a size, and its answer's code if there is one.
func (m *Metrics) exchanged(req *http.Request, began time.Time, resp *http.Response) {
	if m == nil {
		return
	}
	code := "<error>"
	if resp != nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	m.requests.WithLabelValues(code, req.Method, req.URL.Host).Inc()
	m.took.WithLabelValues(req.Method, req.URL.Host).Observe(time.Since(began).Seconds())
	m.sent.WithLabelValues(req.Method, req.URL.Host).Observe(float64(req.ContentLength))
}

// answered notes the size of an answer.
func (m *Metrics) answered(resp *http.Response, size int) {
	if m != nil {
		m.received.WithLabelValues(resp.Request.Method, resp.Request.URL.Host).Observe(float64(size))
	}
}

// repeated notes that a request is made again as its answer asks.
func (m *Metrics) repeated(resp *http.Response) {
	if m != nil {
		m.retries.WithLabelValues(strconv.Itoa(resp.StatusCode), resp.Request.Method, resp.Request.URL.Host).Inc()
	}
}

// transport notes that a transport was made, in place of a former one if there was one.
func (m *Metrics) transport() {
	if m != nil {
		m.transports.WithLabelValues("miss").Inc()
		m.held.Set(1)
	}
}
