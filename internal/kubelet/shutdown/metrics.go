package shutdown

import "github.com/prometheus/client_golang/prometheus"

// Metrics tell when the machine last went down, under upstream's names. A nil *Metrics is silent.
type Metrics struct {
	began, ended prometheus.Gauge
}

// NewMetrics makes metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		began: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kubelet_graceful_shutdown_start_time_seconds", Help: "Last graceful shutdown start time since unix epoch in seconds",
		}),
		ended: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kubelet_graceful_shutdown_end_time_seconds", Help: "Last graceful shutdown end time since unix epoch in seconds",
		}),
	}
	r.MustRegister(m.began, m.ended)
	return m
}

func (m *Metrics) begin() {
	if m != nil {
		m.began.SetToCurrentTime()
	}
}

func (m *Metrics) end() {
	if m != nil {
		m.ended.SetToCurrentTime()
	}
}
