package kubelet

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// resizeMetrics are about changes of resources in place.
type resizeMetrics struct {
	requested, infeasible, accepted *prometheus.CounterVec
	took                            *prometheus.HistogramVec
}

func newResizeMetrics(r prometheus.Registerer) resizeMetrics {
	m := resizeMetrics{
		requested: counters("kubelet_container_requested_resizes_total",
			"Number of requested resizes, counted at the container level. Different resources on the same container are counted separately. "+
				"The 'requirement' label refers to 'memory' or 'limits'; the 'operation' label can be one of 'add', 'remove', 'increase' or 'decrease'.",
			"resource", "requirement", "operation"),
		infeasible: counters("kubelet_pod_infeasible_resizes_total", "Number of infeasible resizes for pods.", "reason_detail"),
		accepted:   counters("kubelet_pod_deferred_accepted_resizes_total", "Cumulative number of resizes that were accepted after being deferred.", "retry_trigger"),
		took: histograms("kubelet_pod_resize_duration_milliseconds", "Duration in milliseconds to actuate a pod resize",
			[]float64{10, 50, 100, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 300000, 600000}, "success"),
	}
	r.MustRegister(m.requested, m.infeasible, m.accepted, m.took)
	return m
}

// What makes the kubelet look again at a resize that didn't fit.
const (
	triggerUpdated    = "pod_updated"
	triggerTerminated = "pod_terminated"
	triggerPeriodic   = "periodic_retry"
)

func resizeReason(reason string) string { return strings.ToLower(reason) }

// carriedOut notes that a resize was carried out, or wasn't.
func (m *resizeMetrics) carriedOut(began time.Time, err error) {
	m.took.WithLabelValues(strconv.FormatBool(err == nil)).Observe(float64(time.Since(began).Milliseconds()))
}

// ask counts what a new version of a pod asks for otherwise than the former one.
func (m *resizeMetrics) ask(former, pod *corev1.Pod) {
	count := func(a, b []corev1.Container) {
		for i := range min(len(a), len(b)) {
			for _, r := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceCPU} {
				m.askOne(r, "requests", a[i].Resources.Requests, b[i].Resources.Requests)
				m.askOne(r, "limits", a[i].Resources.Limits, b[i].Resources.Limits)
			}
		}
	}
	count(former.Spec.InitContainers, pod.Spec.InitContainers)
	count(former.Spec.Containers, pod.Spec.Containers)
}

func (m *resizeMetrics) askOne(name corev1.ResourceName, requirement string, former, now corev1.ResourceList) {
	if operation := difference(former[name], now[name]); operation != "" {
		m.requested.WithLabelValues(string(name), requirement, operation).Inc()
	}
}

func difference(former, now resource.Quantity) string {
	switch c := now.Cmp(former); {
	case c == 0:
		return ""
	case now.IsZero():
		return "remove"
	case former.IsZero():
		return "add"
	case c < 0:
		return "decrease"
	default:
		return "increase"
	}
}
