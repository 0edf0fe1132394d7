package kubelet

import (
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	corev1 "k8s.io/api/core/v1"
	apiversion "k8s.io/apimachinery/pkg/version"

	"clipper.dev/clipper/internal/exposition"
	"clipper.dev/clipper/internal/kubelet/configuration"
	"clipper.dev/clipper/internal/kubelet/handlers"
	"clipper.dev/clipper/internal/kubelet/images"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/node"
	"clipper.dev/clipper/internal/kubelet/probes"
	"clipper.dev/clipper/internal/kubelet/shutdown"
	"clipper.dev/clipper/internal/kubelet/volumes"
)

// metrics are what the kubelet counts, under upstream's names.
type metrics struct {
	registry *prometheus.Registry // /metrics
	probes   *prometheus.Registry // /metrics/probes

	probeTotal    *prometheus.CounterVec
	probeDuration *prometheus.HistogramVec

	start    startMetrics
	resizes  resizeMetrics
	hooks    *handlers.Metrics
	images   *images.Metrics
	shutdown *shutdown.Metrics
	startup  *node.Startup

	workerTook        *prometheus.HistogramVec
	statusTook        prometheus.Histogram
	containersPerPod  prometheus.Histogram
	terminated        *prometheus.CounterVec
	orphans           prometheus.Counter
	restarted         *prometheus.CounterVec
	evictions         *prometheus.CounterVec
	evictionStatsAge  *prometheus.HistogramVec
	preemptions       *prometheus.CounterVec
	admissionRefusals *prometheus.CounterVec
	cgroups           *prometheus.HistogramVec
	volumeStats       *prometheus.HistogramVec
}

// newMetrics makes them in a registry, where others of the node's are too.
func newMetrics(registry *prometheus.Registry, started time.Time) *metrics {
	m := &metrics{
		registry: registry, probes: prometheus.NewRegistry(), start: newStartMetrics(registry), resizes: newResizeMetrics(registry),
		hooks: handlers.NewMetrics(registry), images: images.NewMetrics(registry), shutdown: shutdown.NewMetrics(registry), startup: node.NewStartup(registry, started),
	}
	labels := []string{"probe_type", "container", "pod", "namespace"}
	m.probeTotal = counters("prober_probe_total", "Cumulative number of a liveness, readiness or startup probe for a container by result.", append(labels, "pod_uid", "result")...)
	m.probeDuration = histograms("prober_probe_duration_seconds", "Duration in seconds for a probe response.", nil, labels...)
	m.probes.MustRegister(m.probeTotal, m.probeDuration)

	m.workerTook = histograms("kubelet_pod_worker_duration_seconds", "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync", nil, "operation_type")
	m.statusTook = histogram("kubelet_pod_status_sync_duration_seconds",
		"Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status until the API is successfully updated for that pod, even if multiple intevening changes to pod status occur.",
		[]float64{.01, .05, .1, .5, 1, 5, 10, 20, 30, 45, 60})
	m.containersPerPod = histogram("kubelet_containers_per_pod_count", "The number of containers per pod.", prometheus.ExponentialBuckets(1, 2, 5))
	m.terminated = counters("kubelet_terminated_containers_total", "Cumulative number of container terminations.", "container_type", "exit_code", "reason")
	m.orphans = counter("kubelet_orphaned_runtime_pods_total", "Number of pods that have been detected in the container runtime without being already known to the pod worker. "+
		"This typically indicates the kubelet was restarted while a pod was force deleted in the API or in the local configuration, which is unusual.")
	m.restarted = counters("kubelet_restarted_pods_total", "Number of pods that have been restarted because they were deleted and recreated with the same UID while the kubelet was watching them "+
		"(common for static pods, extremely uncommon for API pods)", "static")
	m.evictions = counters("kubelet_evictions", "Cumulative number of pod evictions by eviction signal", "eviction_signal")
	m.evictionStatsAge = histograms("kubelet_eviction_stats_age_seconds",
		"Time between when stats are collected, and when pod is evicted based on those stats by eviction signal", nil, "eviction_signal")
	m.preemptions = counters("kubelet_preemptions", "Cumulative number of pod preemptions by preemption resource", "preemption_signal")
	m.admissionRefusals = counters("kubelet_admission_rejections_total", "Cumulative number pod admission rejections by the Kubelet.", "reason")
	m.cgroups = histograms("kubelet_cgroup_manager_duration_seconds", "Duration in seconds for cgroup manager operations. Broken down by method.", nil, "operation_type")
	m.volumeStats = histograms("kubelet_volume_metric_collection_duration_seconds", "Duration in seconds to calculate volume stats", nil, "metric_source")
	m.registry.MustRegister(m.workerTook, m.statusTook, m.containersPerPod, m.terminated, m.orphans, m.restarted, m.evictions, m.evictionStatsAge, m.preemptions,
		m.admissionRefusals, m.cgroups, m.volumeStats)
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

// histograms have Prometheus' own buckets if there are none.
func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

// describe adds what is read from the kubelet when somebody asks.
func (m *metrics) describe(k *Kubelet) {
	name := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubelet_node_name", Help: "The node's name. The count is always 1.", ConstLabels: prometheus.Labels{"node": k.cfg.NodeName}})
	name.Set(1)
	provider := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kubelet_metrics_provider", Help: "Metrics provider used by kubelet to collect container stats. Values can be 'cadvisor' and 'cri'",
		ConstLabels: prometheus.Labels{"provider": "cri"},
	})
	provider.Set(1)
	groups := gauge("kubelet_cgroup_version", "cgroup version on the hosts.")
	groups.Set(1)
	if k.tree.V2() {
		groups.Set(2)
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		exposition.BuildInfo(buildOf(k.cfg.Version)), configuration.Features{Settings: k.cfg.Settings}, &podCollector{k: k}, &volumeCollector{k: k}, &volumes.Totals{Manager: k.volumes, Pods: k.podsThatRun}, name, provider, groups)
}

// buildOf tells of a version and of this program.
func buildOf(version string) apiversion.Info {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	return apiversion.Info{
		Major: major, Minor: minor, GitVersion: version, GitTreeState: "clean",
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// containerType is the label of a class of containers.
func containerType(c lifecycle.Class) string {
	return [...]string{lifecycle.Regular: "container", lifecycle.Init: "init_container", lifecycle.Ephemeral: "ephemeral_container"}[c]
}

// countEnds counts the containers that have ended since a former look.
func (m *metrics) countEnds(pod *corev1.Pod, former, now *lifecycle.Observed) {
	if former == nil {
		return // a former process has counted
	}
	for i := range now.Containers {
		c := &now.Containers[i]
		if c.State != lifecycle.Exited || hadEnded(former, c.ID) {
			continue
		}
		class := lifecycle.Regular
		if ref, ok := lifecycle.Find(pod, c.Name); ok {
			class = ref.Class
		}
		m.terminated.WithLabelValues(containerType(class), strconv.Itoa(int(c.ExitCode)), c.Reason).Inc()
	}
}

func hadEnded(o *lifecycle.Observed, id string) bool {
	for i := range o.Containers {
		if c := &o.Containers[i]; c.ID == id {
			return c.State == lifecycle.Exited
		}
	}
	return false
}

// cgroupDone notes how long a change of control groups took.
func (m *metrics) cgroupDone(operation string, took time.Duration) {
	m.cgroups.WithLabelValues(operation).Observe(took.Seconds())
}

// operationTypes name a worker's operations.
var operationTypes = [...]string{opSync: "sync", opRefresh: "update", opKill: "kill", opClean: "terminated", opPurge: "terminated"}

// countOperation notes how long an operation of a worker took.
func (m *metrics) countOperation(o *operation) {
	name := operationTypes[o.kind]
	if o.creates {
		name = "create"
	}
	m.workerTook.WithLabelValues(name).Observe(time.Since(o.began).Seconds())
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
