package nodelifecycle

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// zoneCollector shows upstream's metrics of zones: those of their health as the nodes are when somebody asks.
type zoneCollector struct {
	count                   func() census
	evictions               *prometheus.CounterVec
	looks                   prometheus.Histogram
	size, unhealthy, health *prometheus.Desc
}

func newZoneCollector(count func() census) *zoneCollector {
	const subsystem = "node_collector"
	zone := []string{"zone"}
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("", subsystem, name), help, zone, nil)
	}
	return &zoneCollector{
		count: count,
		evictions: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "evictions_total",
			Help: "Number of Node evictions that happened since current instance of NodeController started."}, zone),
		looks: prometheus.NewHistogram(prometheus.HistogramOpts{Subsystem: subsystem, Name: "update_node_health_duration_seconds",
			Help: "Duration in seconds for NodeController to update the health of a single node.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}),
		size:      gauge("zone_size", "Gauge measuring number of registered Nodes per zones."),
		unhealthy: gauge("unhealthy_nodes_in_zone", "Gauge measuring number of not Ready Nodes per zones."),
		health:    gauge("zone_health", "Gauge measuring percentage of healthy nodes per zone."),
	}
}

// Describe implements prometheus.Collector.
func (z *zoneCollector) Describe(out chan<- *prometheus.Desc) {
	z.evictions.Describe(out)
	z.looks.Describe(out)
	out <- z.size
	out <- z.unhealthy
	out <- z.health
}

// Collect implements prometheus.Collector.
func (z *zoneCollector) Collect(out chan<- prometheus.Metric) {
	z.evictions.Collect(out)
	z.looks.Collect(out)
	c := z.count()
	zones := slices.Concat(slices.Collect(maps.Keys(c.ready)), slices.Collect(maps.Keys(c.notReady)))
	slices.Sort(zones)
	for _, zone := range slices.Compact(zones) {
		ready, all := float64(c.ready[zone]), float64(c.ready[zone]+c.notReady[zone])
		out <- prometheus.MustNewConstMetric(z.size, prometheus.GaugeValue, all, zone)
		out <- prometheus.MustNewConstMetric(z.unhealthy, prometheus.GaugeValue, all-ready, zone)
		out <- prometheus.MustNewConstMetric(z.health, prometheus.GaugeValue, 100*ready/all, zone)
	}
}
