package endpointslice

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/controller"
)

// metrics are upstream's, by name and labels.
type metrics struct {
	syncs, changes             *prometheus.CounterVec
	added, removed             prometheus.Histogram
	changed                    *prometheus.HistogramVec
	slices, desired, endpoints prometheus.Gauge
	distributions              *prometheus.GaugeVec

	mu sync.Mutex
	of map[controller.Key]extent // what Services had at their last syncs
}

// extent is what a Service has, and the traffic distribution that it asks for.
type extent struct {
	endpoints, slices, desired int
	distribution               string
}

func newMetrics() *metrics {
	const subsystem = "endpoint_slice_controller"
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Subsystem: subsystem, Name: name, Help: help})
	}
	perSync := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Subsystem: subsystem, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(2, 2, 15)})
	}
	return &metrics{
		syncs:   counters("syncs", "Number of EndpointSlice syncs", "result"),
		changes: counters("changes", "Number of EndpointSlice changes", "operation"),
		added:   perSync("endpoints_added_per_sync", "Number of endpoints added on each Service sync"),
		removed: perSync("endpoints_removed_per_sync", "Number of endpoints removed on each Service sync"),
		changed: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Subsystem: subsystem, Name: "endpointslices_changed_per_sync", Help: "Number of EndpointSlices changed on each Service sync",
		}, []string{"topology", "traffic_distribution"}),
		slices:    gauge("num_endpoint_slices", "Number of EndpointSlices"),
		desired:   gauge("desired_endpoint_slices", "Number of EndpointSlices that would exist with perfect endpoint allocation"),
		endpoints: gauge("endpoints_desired", "Number of endpoints desired"),
		distributions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Subsystem: subsystem, Name: "services_count_by_traffic_distribution", Help: "Number of Services using some specific trafficDistribution",
		}, []string{"traffic_distribution"}),
		of: map[controller.Key]extent{},
	}
}

func (m *metrics) register(env *controller.Env) error {
	return env.Register(m.syncs, m.changes, m.added, m.removed, m.changed, m.slices, m.desired, m.endpoints, m.distributions)
}

// synced notes that a Service's slices were made what they should be, or that this failed.
func (m *metrics) synced(svc *corev1.Service, p *plan, err error) {
	result := "success"
	if err != nil {
		result = "error"
	}
	m.syncs.WithLabelValues(result).Inc()
	m.added.Observe(float64(p.added))
	m.removed.Observe(float64(p.removed))
	distribution := deref(svc.Spec.TrafficDistribution)
	m.changed.WithLabelValues("Disabled", distribution).Observe(float64(len(p.create) + len(p.update) + len(p.delete)))
	m.replace(controller.Key{Namespace: svc.Namespace, Name: svc.Name}, extent{p.endpoints, p.slices, max(p.desired, 1), distribution})
}

// replace notes what a Service has now; nothing if it is gone.
func (m *metrics) replace(key controller.Key, now extent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.of[key]
	if now == (extent{}) {
		delete(m.of, key)
	} else {
		m.of[key] = now
	}
	m.endpoints.Add(float64(now.endpoints - was.endpoints))
	m.slices.Add(float64(now.slices - was.slices))
	m.desired.Add(float64(now.desired - was.desired))
	if was.distribution != "" {
		m.distributions.WithLabelValues(was.distribution).Dec()
	}
	if now.distribution != "" {
		m.distributions.WithLabelValues(now.distribution).Inc()
	}
}
