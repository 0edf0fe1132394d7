package handlers

import "github.com/prometheus/client_golang/prometheus"

// Metrics are what hooks count, under upstream's names.
type Metrics struct {
	fallbacks, cut prometheus.Counter
}

// NewMetrics makes metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		fallbacks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubelet_lifecycle_handler_http_fallbacks_total", Help: "The number of times lifecycle handlers successfully fell back to http from https.",
		}),
		cut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubelet_sleep_action_terminated_early_total", Help: "The number of times lifecycle sleep handler got terminated before it finishes",
		}),
	}
	r.MustRegister(m.fallbacks, m.cut)
	return m
}
