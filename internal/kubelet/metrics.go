package kubelet

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/probes"
)

// metrics are what the kubelet counts, under upstream's names.
type metrics struct {
	registry *prometheus.Registry // /metrics
	probes   *prometheus.Registry // /metrics/probes

	probeTotal    *prometheus.CounterVec
	probeDuration *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), probes: prometheus.NewRegistry()}
	labels := []string{"probe_type", "container", "pod", "namespace", "pod_uid", "result"}
	m.probeTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "prober_probe_total", Help: "Cumulative number of a liveness, readiness or startup probe for a container by result.",
	}, labels)
	m.probeDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "prober_probe_duration_seconds", Help: "Duration in seconds for a probe response.",
	}, []string{"probe_type", "container", "pod", "namespace"})
	m.probes.MustRegister(m.probeTotal, m.probeDuration)
	return m
}

// countProbe counts one run of a probe.
func (m *metrics) countProbe(pod *corev1.Pod, container string, k probes.Kind, result string, took time.Duration) {
	m.probeTotal.WithLabelValues(k.String(), container, pod.Name, pod.Namespace, string(pod.UID), result).Inc()
	if result == "successful" {
		m.probeDuration.WithLabelValues(k.String(), container, pod.Name, pod.Namespace).Observe(took.Seconds())
	}
}

// forgetPod drops a pod's series.
func (m *metrics) forgetPod(pod *corev1.Pod) {
	labels := prometheus.Labels{"pod": pod.Name, "namespace": pod.Namespace}
	m.probeTotal.DeletePartialMatch(labels)
	m.probeDuration.DeletePartialMatch(labels)
}
