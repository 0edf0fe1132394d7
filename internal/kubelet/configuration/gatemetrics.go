package configuration

import (
	"github.com/prometheus/client_golang/prometheus"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

var featureDesc = prometheus.NewDesc("kubernetes_feature_enabled", "This metric records the data about the stage and enablement of a k8s feature.", []string{"name", "stage"}, nil)

// Features collects which gates are open in a configuration, under upstream's name.
type Features struct {
	Settings *kubeletconfig.KubeletConfiguration
}

// Describe implements prometheus.Collector.
func (Features) Describe(out chan<- *prometheus.Desc) { out <- featureDesc }

// Collect implements prometheus.Collector.
func (f Features) Collect(out chan<- prometheus.Metric) {
	for name, known := range knownGates() {
		open := 0.0
		if gate(f.Settings, name) {
			open = 1
		}
		out <- prometheus.MustNewConstMetric(featureDesc, prometheus.GaugeValue, open, name, known.stage)
	}
}
