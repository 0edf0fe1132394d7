package kubelet

import (
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// podCollector counts pods and containers when somebody asks. Nothing of it is kept.
type podCollector struct{ k *Kubelet }

func podDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("kubelet_"+name, help, labels, nil)
}

var (
	runningPods       = podDesc("running_pods", "Number of pods that have a running pod sandbox")
	runningContainers = podDesc("running_containers", "Number of containers currently running", "container_state")
	activePods        = podDesc("active_pods", "The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.", "static")
	desiredPods       = podDesc("desired_pods", "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.", "static")
	workingPods       = podDesc("working_pods", "Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is desired, orphaned, or runtime only (also orphaned), and whether the pod is static. "+
		"An orphaned pod has been removed from local configuration or force deleted in the API and consumes resources that are not otherwise visible.", "lifecycle", "config", "static")
	mirrorPods      = podDesc("mirror_pods", "The number of mirror pods the kubelet will try to create (one per admitted static pod)")
	ephemeral       = podDesc("managed_ephemeral_containers", "Current number of ephemeral containers in pods managed by this kubelet.")
	pendingResizes  = podDesc("pod_pending_resizes", "Number of pending resizes for pods.", "reason")
	runningResizes  = podDesc("pod_in_progress_resizes", "Number of in-progress resizes for pods.")
	containerLogs   = podDesc("container_log_filesystem_used_bytes", "Bytes used by the container's logs on the filesystem.", "uid", "namespace", "pod", "container")
	podDescriptions = []*prometheus.Desc{runningPods, runningContainers, activePods, desiredPods, workingPods, mirrorPods, ephemeral, pendingResizes, runningResizes, containerLogs}
)

// Describe implements prometheus.Collector.
func (c *podCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range podDescriptions {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *podCollector) Collect(out chan<- prometheus.Metric) {
	n := c.k.pods.count()
	show := func(d *prometheus.Desc, value int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	for _, static := range []string{"", "true"} {
		show(activePods, n.active[static], static)
		show(desiredPods, n.desired[static], static)
	}
	for w, pods := range n.working {
		show(workingPods, pods, w.lifecycle, w.config, w.static)
	}
	show(runningPods, n.sandboxes)
	for state, containers := range n.containers {
		show(runningContainers, containers, state.String())
	}
	show(mirrorPods, n.mirrors)
	show(ephemeral, n.ephemeral)
	for reason, pods := range n.pending {
		show(pendingResizes, pods, reason)
	}
	show(runningResizes, n.resizing)
	for _, pod := range c.k.pods.list() {
		showLogs(out, pod)
	}
}

// showLogs tells the size of the logs of a pod's containers that run, rotated ones included.
func showLogs(out chan<- prometheus.Metric, pod Snapshot) {
	if pod.Observed == nil {
		return
	}
	for _, c := range pod.Observed.RunningContainers() {
		files, err := filepath.Glob(c.LogPath + "*")
		if err != nil || c.LogPath == "" {
			continue
		}
		var size int64
		for _, path := range files {
			if info, err := os.Lstat(path); err == nil {
				size += info.Size()
			}
		}
		out <- prometheus.MustNewConstMetric(containerLogs, prometheus.GaugeValue, float64(size), string(pod.Pod.UID), pod.Pod.Namespace, pod.Pod.Name, c.Name)
	}
}

// podCounts are numbers of pods and of what is in them. Maps are by whether the pod is static, as upstream writes it, unless they say otherwise.
type podCounts struct {
	active, desired    map[string]int
	working            map[work]int
	sandboxes, mirrors int
	containers         map[lifecycle.State]int
	ephemeral          int
	pending            map[string]int // resizes, by reason
	resizing           int
}

// work is what a worker is at.
type work struct{ lifecycle, config, static string }

// stage tells what a pod's worker is at.
func (e *entry) stage() work {
	w := work{lifecycle: "sync", config: "desired", static: staticLabel(e.pod)}
	switch {
	case e.stopped:
		w.lifecycle = "terminated"
	case e.ending:
		w.lifecycle = "terminating"
	}
	switch {
	case e.unknown:
		w.config, w.static = "runtime_only", "unknown"
	case e.leaving:
		w.config = "orphan"
	}
	return w
}

func staticLabel(pod *corev1.Pod) string {
	if lifecycle.IsStatic(pod) {
		return "true"
	}
	return ""
}

// count counts pods and what is in them.
func (p *pods) count() podCounts {
	n := podCounts{active: map[string]int{}, desired: map[string]int{}, working: map[work]int{}, containers: map[lifecycle.State]int{}, pending: map[string]int{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.workers {
		stage := e.stage()
		n.working[stage]++
		if !e.stopped && !lifecycle.Terminal(e.status.Phase) {
			n.active[staticLabel(e.pod)]++
			if lifecycle.IsStatic(e.pod) {
				n.mirrors++
			}
		}
		if !e.leaving {
			n.desired[stage.static]++
			n.ephemeral += len(e.pod.Spec.EphemeralContainers)
		}
		n.addResizes(&e.status)
		n.addObserved(e.observed)
	}
	return n
}

func (n *podCounts) addResizes(status *corev1.PodStatus) {
	for i := range status.Conditions {
		switch c := &status.Conditions[i]; c.Type {
		case corev1.PodResizePending:
			n.pending[resizeReason(c.Reason)]++
		case corev1.PodResizeInProgress:
			n.resizing++
		}
	}
}

func (n *podCounts) addObserved(o *lifecycle.Observed) {
	if o == nil {
		return
	}
	if box := o.Sandbox(); box != nil && box.Ready {
		n.sandboxes++
	}
	for i := range o.Containers {
		n.containers[o.Containers[i].State]++
	}
}
