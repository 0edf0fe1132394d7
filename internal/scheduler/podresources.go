package scheduler

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"clipper.dev/clipper/internal/client"
)

// PodResources serves what upstream's scheduler does at /metrics/resources: what each pod that hasn't ended requests and is limited to.
// Nothing of it is kept.
func PodResources(c client.Client, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pods, err := client.Pods.List(r.Context(), c, "", nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		registry := prometheus.NewRegistry()
		registry.MustRegister(podResources{pods})
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}).ServeHTTP(w, r)
	})
}

var (
	podResourceLabels = []string{"namespace", "pod", "node", "scheduler", "priority", "resource", "unit"}
	podRequestDesc    = prometheus.NewDesc("kube_pod_resource_request", "[STABLE] Resources requested by workloads on the cluster, broken down by pod. "+
		"This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.", podResourceLabels, nil)
	podLimitDesc = prometheus.NewDesc("kube_pod_resource_limit", "[STABLE] Resources limit for workloads on the cluster, broken down by pod. "+
		"This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.", podResourceLabels, nil)
)

// podResources collects what pods request and are limited to.
type podResources struct{ pods []*corev1.Pod }

// Describe implements prometheus.Collector.
func (podResources) Describe(out chan<- *prometheus.Desc) {
	out <- podRequestDesc
	out <- podLimitDesc
}

// Collect implements prometheus.Collector.
func (p podResources) Collect(out chan<- prometheus.Metric) {
	for _, pod := range p.pods {
		if pod.Spec.NodeName != "" && finished(pod) {
			continue
		}
		showResources(out, podRequestDesc, pod, resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}))
		showResources(out, podLimitDesc, pod, resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{}))
	}
}

func showResources(out chan<- prometheus.Metric, desc *prometheus.Desc, pod *corev1.Pod, list corev1.ResourceList) {
	priority := ""
	if pod.Spec.Priority != nil {
		priority = strconv.Itoa(int(*pod.Spec.Priority))
	}
	for name, amount := range list {
		if !amount.IsZero() {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, amount.AsApproximateFloat64(),
				pod.Namespace, pod.Name, pod.Spec.NodeName, pod.Spec.SchedulerName, priority, string(name), unitOf(name))
		}
	}
}

// unitOf is a resource's unit; "" is a number of what the resource is.
func unitOf(name corev1.ResourceName) string {
	switch {
	case name == corev1.ResourceCPU:
		return "cores"
	case name == corev1.ResourceMemory, name == corev1.ResourceStorage, name == corev1.ResourceEphemeralStorage, strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
		return "bytes"
	case strings.HasPrefix(string(name), corev1.ResourceAttachableVolumesPrefix):
		return "integer"
	}
	return ""
}
