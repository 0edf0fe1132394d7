package nodeipam

import (
	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/controller"
)

// metrics are upstream's, by name and labels.
type metrics struct {
	allocations, releases *prometheus.CounterVec
	size, usage           *prometheus.GaugeVec
	tries                 *prometheus.HistogramVec
}

func newMetrics() *metrics {
	const subsystem = "node_ipam_controller"
	label := []string{"clusterCIDR"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: name, Help: help}, label)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: subsystem, Name: name, Help: help}, label)
	}
	return &metrics{
		allocations: counter("cidrset_cidrs_allocations_total", "Counter measuring total number of CIDR allocations."),
		releases:    counter("cidrset_cidrs_releases_total", "Counter measuring total number of CIDR releases."),
		size:        gauge("cirdset_max_cidrs", "Maximum number of CIDRs that can be allocated."),
		usage:       gauge("cidrset_usage_cidrs", "Gauge measuring percentage of allocated CIDRs."),
		tries: prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: "cidrset_allocation_tries_per_request",
			Help: "Number of endpoints added on each Service sync", Buckets: prometheus.ExponentialBuckets(1, 5, 5)}, label),
	}
}

func (m *metrics) register(env *controller.Env) error {
	return env.Register(m.allocations, m.releases, m.size, m.usage, m.tries)
}

// of returns the metrics of one range.
func (m *metrics) of(p *pool) poolMetrics {
	label := p.cidr.String()
	m.size.WithLabelValues(label).Set(float64(p.size()))
	return poolMetrics{
		allocations: m.allocations.WithLabelValues(label), releases: m.releases.WithLabelValues(label),
		usage: m.usage.WithLabelValues(label), tries: m.tries.WithLabelValues(label),
	}
}

// poolMetrics count what becomes of a pool.
type poolMetrics struct {
	allocations, releases prometheus.Counter
	usage                 prometheus.Gauge
	tries                 prometheus.Observer
}
