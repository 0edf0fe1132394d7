package kubelet

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// startMetrics are about how pods and containers start.
type startMetrics struct {
	worker, pod, total, sli prometheus.Histogram
	first                   prometheus.Gauge
	firstOnce               *sync.Once

	pods, podErrors             prometheus.Counter
	userPods, userPodErrors     prometheus.Counter // with user namespaces
	containers, containerErrors *prometheus.CounterVec

	imageVolumes, imageVolumesMounted, imageVolumeErrors prometheus.Counter
}

func newStartMetrics(r prometheus.Registerer) startMetrics {
	times := []float64{.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}
	const measured = ", measured from pod creation timestamp to when all its containers are reported as started and observed via watch"
	m := startMetrics{
		worker: histogram("kubelet_pod_worker_start_duration_seconds", "Duration in seconds from kubelet seeing a pod to starting a worker.", prometheus.DefBuckets),
		pod:    histogram("kubelet_pod_start_duration_seconds", "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run", times),
		total: histogram("kubelet_pod_start_total_duration_seconds",
			"Duration in seconds to start a pod since creation, including time to pull images and run init containers"+measured, times),
		sli: histogram("kubelet_pod_start_sli_duration_seconds", "Duration in seconds to start a pod, excluding time to pull images and run init containers"+measured, times),
		first: gauge("kubelet_first_network_pod_start_sli_duration_seconds",
			"Duration in seconds to start the first network pod, excluding time to pull images and run init containers"+measured),
		firstOnce:  new(sync.Once),
		pods:       counter("kubelet_started_pods_total", "Cumulative number of pods started"),
		podErrors:  counter("kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods"),
		userPods:   counter("kubelet_started_user_namespaced_pods_total", "Cumulative number of pods with user namespaces started. This metric will only be collected on Linux."),
		containers: counters("kubelet_started_containers_total", "Cumulative number of containers started", "container_type"),
		userPodErrors: counter("kubelet_started_user_namespaced_pods_errors_total",
			"Cumulative number of errors when starting pods with user namespaces. This metric will only be collected on Linux."),
		containerErrors:     counters("kubelet_started_containers_errors_total", "Cumulative number of errors when starting containers", "container_type", "code"),
		imageVolumes:        counter("kubelet_image_volume_requested_total", "Number of requested image volumes."),
		imageVolumesMounted: counter("kubelet_image_volume_mounted_succeed_total", "Number of successful image volume mounts."),
		imageVolumeErrors:   counter("kubelet_image_volume_mounted_errors_total", "Number of failed image volume mounts."),
	}
	r.MustRegister(m.worker, m.pod, m.total, m.sli, m.first, m.pods, m.podErrors, m.userPods, m.userPodErrors, m.containers, m.containerErrors,
		m.imageVolumes, m.imageVolumesMounted, m.imageVolumeErrors)
	return m
}

// sandbox counts that a pod's sandbox is made.
func (m *startMetrics) sandbox(pod *corev1.Pod) {
	m.pods.Inc()
	if ownUsers(pod) {
		m.userPods.Inc()
	}
}

// noSandbox counts that a pod's sandbox could not be made.
func (m *startMetrics) noSandbox(pod *corev1.Pod) {
	m.podErrors.Inc()
	if ownUsers(pod) {
		m.userPodErrors.Inc()
	}
}

func ownUsers(pod *corev1.Pod) bool { return pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers }

// imageVolume counts a mount of an image that a container asks for.
func (m *startMetrics) imageVolume(err error) {
	m.imageVolumes.Inc()
	if err != nil {
		m.imageVolumeErrors.Inc()
		return
	}
	m.imageVolumesMounted.Inc()
}

// seenStarted notes that the API tells of a pod, whose images took a while to be pulled, that all its containers have started.
func (m *startMetrics) seenStarted(pod *corev1.Pod, pulling time.Duration) {
	took := time.Since(pod.CreationTimestamp.Time)
	m.total.Observe(took.Seconds())
	if keepsState(pod) {
		return
	}
	own := max(took-pulling-initTime(&pod.Status), 0)
	m.sli.Observe(own.Seconds())
	if !pod.Spec.HostNetwork {
		m.firstOnce.Do(func() { m.first.Set(own.Seconds()) })
	}
}

// allStarted tells whether a status has all containers of a pod as started.
func allStarted(status *corev1.PodStatus) bool {
	for i := range status.ContainerStatuses {
		if s := &status.ContainerStatuses[i]; s.State.Running == nil || s.State.Running.StartedAt.IsZero() {
			return false
		}
	}
	return status.Phase == corev1.PodRunning && len(status.ContainerStatuses) > 0
}

// initTime is how long init containers ran that have ended.
func initTime(status *corev1.PodStatus) time.Duration {
	var sum time.Duration
	for i := range status.InitContainerStatuses {
		if t := status.InitContainerStatuses[i].State.Terminated; t != nil {
			sum += t.FinishedAt.Sub(t.StartedAt.Time)
		}
	}
	return sum
}

// keepsState tells whether a pod has volumes that outlive it: their mounts take a time that isn't the node's to promise.
func keepsState(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Secret == nil && v.ConfigMap == nil && v.DownwardAPI == nil && v.Projected == nil && v.EmptyDir == nil {
			return true
		}
	}
	return false
}

// sawStart looks in the API's version of a pod for the news that it has started. A pod that ran when the kubelet learned of it isn't measured.
func (w *worker) sawStart(pod *corev1.Pod) {
	switch started := allStarted(&pod.Status); {
	case w.pod == nil:
		w.startSeen = pod.Status.StartTime != nil || lifecycle.IsStatic(pod)
	case started && !w.startSeen:
		w.startSeen = true
		w.k.metrics.start.seenStarted(pod, time.Duration(w.pulling.Load()))
	}
}
