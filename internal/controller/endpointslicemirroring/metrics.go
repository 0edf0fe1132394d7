package endpointslicemirroring

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"clipper.dev/clipper/internal/controller"
)

// metrics are upstream's, by name and labels.
type metrics struct {
	duration                         prometheus.Histogram
	added, updated, removed, skipped prometheus.Histogram
	changes                          *prometheus.CounterVec
	slices, desired, endpoints       prometheus.Gauge

	mu sync.Mutex
	of map[controller.Key]extent // what Endpoints had at their last syncs
}

// extent is what is mirrored of Endpoints: endpoints, in how many slices, and how many would do.
type extent struct {
	endpoints, slices, desired int
}

// difference is how a slice's endpoints differ from what they should be.
type difference struct {
	added, updated, removed int
}

func (d *difference) add(other difference) {
	d.added, d.updated, d.removed = d.added+other.added, d.updated+other.updated, d.removed+other.removed
}

func newMetrics() *metrics {
	const subsystem = "endpoint_slice_mirroring_controller"
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Subsystem: subsystem, Name: name, Help: help, Buckets: buckets})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Subsystem: subsystem, Name: name, Help: help})
	}
	numbers := prometheus.ExponentialBuckets(2, 2, 15)
	return &metrics{
		duration: histogram("endpoints_sync_duration", "Duration of syncEndpoints() in seconds", prometheus.ExponentialBuckets(0.001, 2, 15)),
		added:    histogram("endpoints_added_per_sync", "Number of endpoints added on each Endpoints sync", numbers),
		updated:  histogram("endpoints_updated_per_sync", "Number of endpoints updated on each Endpoints sync", numbers),
		removed:  histogram("endpoints_removed_per_sync", "Number of endpoints removed on each Endpoints sync", numbers),
		skipped: histogram("addresses_skipped_per_sync",
			"Number of addresses skipped on each Endpoints sync due to being invalid or exceeding MaxEndpointsPerSubset", numbers),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "changes", Help: "Number of EndpointSlice changes"}, []string{"operation"}),
		slices:  gauge("num_endpoint_slices", "Number of EndpointSlices"),
		desired: gauge("desired_endpoint_slices", "Number of EndpointSlices that would exist with perfect endpoint allocation"),

		endpoints: gauge("endpoints_desired", "Number of endpoints desired"),
		of:        map[controller.Key]extent{},
	}
}

func (m *metrics) register(env *controller.Env) error {
	return env.Register(m.duration, m.added, m.updated, m.removed, m.skipped, m.changes, m.slices, m.desired, m.endpoints)
}

// planned notes what is about to be made of the slices of Endpoints.
func (m *metrics) planned(key controller.Key, p *plan) {
	m.added.Observe(float64(p.added))
	m.updated.Observe(float64(p.updated))
	m.removed.Observe(float64(p.removed))
	m.skipped.Observe(float64(p.skipped))
	m.replace(key, p.extent)
}

// replace notes what is mirrored of Endpoints now; nothing if they are gone.
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
}

// compare counts what makes one list of endpoints another.
func compare(have, want []discoveryv1.Endpoint) difference {
	former := make(map[string]*discoveryv1.Endpoint, len(have))
	for i := range have {
		former[identity(&have[i])] = &have[i]
	}
	var d difference
	for i := range want {
		key := identity(&want[i])
		old, ok := former[key]
		switch {
		case !ok:
			d.added++
		case !equality.Semantic.DeepEqual(old, &want[i]):
			d.updated++
		}
		delete(former, key)
	}
	d.removed = len(former)
	return d
}

// identity is what versions of one endpoint have in common.
func identity(e *discoveryv1.Endpoint) string {
	target := ""
	if e.TargetRef != nil {
		target = e.TargetRef.Namespace + "/" + e.TargetRef.Name
	}
	return strings.Join([]string{strings.Join(e.Addresses, ","), value(e.Hostname), value(e.NodeName), target}, "|")
}
