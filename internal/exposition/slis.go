package exposition

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// SLIs count what the checks of health found. /metrics/slis shows them alone, so that they can be scraped often.
type SLIs struct {
	last    *prometheus.GaugeVec
	total   *prometheus.CounterVec
	handler http.Handler
}

// NewSLIs returns counts of a program that has started at a time.
func NewSLIs(started time.Time) *SLIs {
	m := &SLIs{
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kubernetes_healthcheck", Help: "[STABLE] This metric records the result of a single healthcheck.",
		}, []string{"name", "type"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubernetes_healthchecks_total", Help: "[STABLE] This metric records the results of all healthcheck.",
		}, []string{"name", "status", "type"}),
	}
	start := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "process_start_time_seconds", Help: "[ALPHA] Start time of the process since unix epoch in seconds.",
	})
	start.Set(float64(started.Unix()))
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.last, m.total, start)
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{ProcessStartTime: started})
	return m
}

// Found notes what a check of an endpoint found.
func (m *SLIs) Found(check, endpoint string, err error) {
	value, status := 1.0, "success"
	if err != nil {
		value, status = 0, "error"
	}
	m.last.WithLabelValues(check, endpoint).Set(value)
	m.total.WithLabelValues(check, status, endpoint).Inc()
}

// ServeHTTP shows the counts, or resets them.
func (m *SLIs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut:
		m.handler.ServeHTTP(w, r)
	case http.MethodDelete:
		m.last.Reset()
		m.total.Reset()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("metrics reset\n")) // a client that went away is no error of the server's
	}
}
