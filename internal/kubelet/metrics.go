package kubelet

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/probes"
)

// metrics are what the kubelet counts, under upstream's names.
type metrics struct {
	registry *prometheus.Registry // /metrics
	probes   *prometheus.Registry // /metrics/probes

	probeTotal    *prometheus.CounterVec
	probeDuration *prometheus.HistogramVec

	podStart          prometheus.Histogram
	startedPods       prometheus.Counter
	startedPodErrors  prometheus.Counter
	started           *prometheus.CounterVec
	startedErrors     *prometheus.CounterVec
	evictions         *prometheus.CounterVec
	preemptions       *prometheus.CounterVec
	admissionRefusals *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), probes: prometheus.NewRegistry()}
	labels := []string{"probe_type", "container", "pod", "namespace"}
	m.probeTotal = counters("prober_probe_total", "Cumulative number of a liveness, readiness or startup probe for a container by result.", append(labels, "pod_uid", "result")...)
	m.probeDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "prober_probe_duration_seconds", Help: "Duration in seconds for a probe response."}, labels)
	m.probes.MustRegister(m.probeTotal, m.probeDuration)

	m.podStart = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "kubelet_pod_start_duration_seconds", Help: "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
		Buckets: []float64{.025, .05, .1, .25, .5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300},
	})
	m.startedPods = prometheus.NewCounter(prometheus.CounterOpts{Name: "kubelet_started_pods_total", Help: "Cumulative number of pods started"})
	m.startedPodErrors = prometheus.NewCounter(prometheus.CounterOpts{Name: "kubelet_started_pods_errors_total", Help: "Cumulative number of errors when starting pods"})
	m.started = counters("kubelet_started_containers_total", "Cumulative number of containers started", "container_type")
	m.startedErrors = counters("kubelet_started_containers_errors_total", "Cumulative number of errors when starting containers", "container_type", "code")
	m.evictions = counters("kubelet_evictions", "Cumulative number of pod evictions by eviction signal", "eviction_signal")
	m.preemptions = counters("kubelet_preemptions", "Cumulative number of pod preemptions by preemption resource", "preemption_signal")
	m.admissionRefusals = counters("kubelet_admission_rejections_total", "Cumulative number pod admission rejections by the Kubelet.", "reason")
	m.registry.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.podStart, m.startedPods, m.startedPodErrors, m.started, m.startedErrors, m.evictions, m.preemptions, m.admissionRefusals)
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// describe adds gauges that are read from the kubelet when somebody asks.
func (m *metrics) describe(k *Kubelet) {
	m.registry.MustRegister(&runningCollector{k: k}, &volumeCollector{k: k},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_node_name", Help: "The node's name. The count is always 1.", ConstLabels: prometheus.Labels{"node": k.cfg.NodeName}}, func() float64 { return 1 }))
}

// containerType is the label of a class of containers.
func containerType(c lifecycle.Class) string {
	return [...]string{lifecycle.Regular: "container", lifecycle.Init: "init_container", lifecycle.Ephemeral: "ephemeral_container"}[c]
}

// runningCollector counts what runs.
type runningCollector struct{ k *Kubelet }

var (
	runningPods       = prometheus.NewDesc("kubelet_running_pods", "Number of pods that have a running pod sandbox", nil, nil)
	runningContainers = prometheus.NewDesc("kubelet_running_containers", "Number of containers currently running", []string{"container_state"}, nil)
)

// Describe implements prometheus.Collector.
func (c *runningCollector) Describe(out chan<- *prometheus.Desc) {
	out <- runningPods
	out <- runningContainers
}

// Collect implements prometheus.Collector.
func (c *runningCollector) Collect(out chan<- prometheus.Metric) {
	pods := 0
	containers := map[lifecycle.State]int{}
	for _, s := range c.k.pods.list() {
		if s.Observed == nil {
			continue
		}
		if box := s.Observed.Sandbox(); box != nil && box.Ready {
			pods++
		}
		for i := range s.Observed.Containers {
			containers[s.Observed.Containers[i].State]++
		}
	}
	out <- prometheus.MustNewConstMetric(runningPods, prometheus.GaugeValue, float64(pods))
	for state, n := range containers {
		out <- prometheus.MustNewConstMetric(runningContainers, prometheus.GaugeValue, float64(n), state.String())
	}
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
