package aggregator

import "github.com/prometheus/client_golang/prometheus"

var unavailableDesc = prometheus.NewDesc("aggregator_unavailable_apiservice",
	"Gauge of APIServices which are marked as unavailable broken down by APIService name.", []string{"name"}, nil)

// availability tells, when it is asked for, which APIServices are there.
type availability struct{ m *Manager }

// Describe implements prometheus.Collector.
func (a availability) Describe(ch chan<- *prometheus.Desc) { ch <- unavailableDesc }

// Collect implements prometheus.Collector.
func (a availability) Collect(ch chan<- prometheus.Metric) {
	for _, s := range a.m.services.List("", nil) {
		value := 1.0
		if available(s) {
			value = 0
		}
		ch <- prometheus.MustNewConstMetric(unavailableDesc, prometheus.GaugeValue, value, s.Name)
	}
}
