package server

import (
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/criconfig"
)

// sheet is a set of metrics made for one answer.
type sheet struct {
	metrics []prometheus.Metric
}

func (s *sheet) Describe(chan<- *prometheus.Desc) {}
func (s *sheet) Collect(out chan<- prometheus.Metric) {
	for _, m := range s.metrics {
		out <- m
	}
}

// family is one metric with its labels.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func gauge(name, help string, labels ...string) family {
	return family{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

func counter(name, help string, labels ...string) family {
	return family{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

func (s *sheet) add(f family, at time.Time, value float64, labels ...string) {
	m := prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
	if !at.IsZero() {
		m = prometheus.NewMetricWithTimestamp(at, m)
	}
	s.metrics = append(s.metrics, m)
}

func (s *sheet) serve(w http.ResponseWriter, r *http.Request) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(s)
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

const nano = 1e9

// The families of /metrics/resource.
var (
	nodeCPU         = counter("node_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by the node in core-seconds")
	nodeMemory      = gauge("node_memory_working_set_bytes", "[STABLE] Current working set of the node in bytes")
	resourceCPU     = counter("container_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by the container in core-seconds", "container", "pod", "namespace")
	resourceMemory  = gauge("container_memory_working_set_bytes", "[STABLE] Current working set of the container in bytes", "container", "pod", "namespace")
	resourceStart   = gauge("container_start_time_seconds", "[STABLE] Start time of the container since unix epoch in seconds", "container", "pod", "namespace")
	podCPU          = counter("pod_cpu_usage_seconds_total", "[STABLE] Cumulative cpu time consumed by the pod in core-seconds", "pod", "namespace")
	podMemory       = gauge("pod_memory_working_set_bytes", "[STABLE] Current working set of the pod in bytes", "pod", "namespace")
	nodeSwap        = gauge("node_swap_usage_bytes", "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems")
	podSwap         = gauge("pod_swap_usage_bytes", "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems", "pod", "namespace")
	containerSwap   = gauge("container_swap_usage_bytes", "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems", "container", "pod", "namespace")
	swapLimit       = gauge("container_swap_limit_bytes", "[ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems", "container", "pod", "namespace")
	resourceFailure = gauge("resource_scrape_error", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise")
)

// serveResourceMetrics answers with what autoscaling and kubectl top need.
func (s *server) serveResourceMetrics(w http.ResponseWriter, r *http.Request) {
	read := s.meter.read(r.Context())
	out := &sheet{}
	out.add(nodeCPU, read.at, float64(read.node.CPUNanoseconds)/nano)
	out.add(nodeMemory, read.at, float64(read.node.WorkingSetBytes))
	out.add(nodeSwap, read.at, float64(read.node.SwapBytes))
	for i := range read.pods {
		p := &read.pods[i]
		out.add(podCPU, read.at, float64(p.usage.CPUNanoseconds)/nano, p.pod.Name, p.pod.Namespace)
		out.add(podMemory, read.at, float64(p.usage.WorkingSetBytes), p.pod.Name, p.pod.Namespace)
		out.add(podSwap, read.at, float64(p.usage.SwapBytes), p.pod.Name, p.pod.Namespace)
		for _, c := range p.containers {
			out.addResources(p, c)
		}
	}
	out.add(resourceFailure, time.Time{}, flag(read.failed))
	out.serve(w, r)
}

// addResources adds what a container uses, as far as the runtime tells.
func (s *sheet) addResources(p *podReading, c *runtimeapi.ContainerStats) {
	labels := []string{c.GetAttributes().GetMetadata().GetName(), p.pod.Name, p.pod.Namespace}
	if v := c.GetCpu().GetUsageCoreNanoSeconds(); v != nil {
		s.add(resourceCPU, time.Unix(0, c.Cpu.Timestamp), float64(v.Value)/nano, labels...)
	}
	if v := c.GetMemory().GetWorkingSetBytes(); v != nil {
		s.add(resourceMemory, time.Unix(0, c.Memory.Timestamp), float64(v.Value), labels...)
	}
	if used := c.GetSwap().GetSwapUsageBytes(); used != nil {
		s.add(containerSwap, time.Unix(0, c.Swap.Timestamp), float64(used.Value), labels...)
		if left := c.Swap.GetSwapAvailableBytes(); left != nil && left.Value < math.MaxUint64-used.Value {
			s.add(swapLimit, time.Unix(0, c.Swap.Timestamp), float64(used.Value+left.Value), labels...)
		}
	}
	if seen := find(p.pod.Observed, c.GetAttributes().GetId()); seen != nil {
		s.add(resourceStart, time.Time{}, float64(seen.StartedAt.UnixNano())/nano, labels...)
	}
}

var containerLabels = []string{"container", "id", "image", "name", "namespace", "pod"}

// The families of /metrics/cadvisor.
var (
	detailCPU     = counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", append(containerLabels, "cpu")...)
	detailUsage   = gauge("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", containerLabels...)
	detailWorking = gauge("container_memory_working_set_bytes", "Current working set in bytes.", containerLabels...)
	detailRSS     = gauge("container_memory_rss", "Size of RSS in bytes.", containerLabels...)
	detailFS      = gauge("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", append(containerLabels, "device")...)
	detailStart   = gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", containerLabels...)
	detailProcs   = gauge("container_processes", "Number of processes running inside the container.", containerLabels...)
	detailFailure = gauge("container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise")
	networkIn     = counter("container_network_receive_bytes_total", "Cumulative count of bytes received", append(containerLabels, "interface")...)
	networkOut    = counter("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", append(containerLabels, "interface")...)
	networkInBad  = counter("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", append(containerLabels, "interface")...)
	networkOutBad = counter("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", append(containerLabels, "interface")...)
)

// serveContainerMetrics answers with what monitoring expects of cAdvisor.
func (s *server) serveContainerMetrics(w http.ResponseWriter, r *http.Request) {
	read := s.meter.read(r.Context())
	out := &sheet{}
	s.addMachine(out)
	out.add(detailFailure, time.Time{}, flag(read.failed))
	root := []string{"", "/", "", "", "", ""}
	out.add(detailCPU, read.at, float64(read.node.CPUNanoseconds)/nano, append(root, "total")...)
	out.add(detailUsage, read.at, float64(read.node.MemoryBytes), root...)
	out.add(detailWorking, read.at, float64(read.node.WorkingSetBytes), root...)
	if read.pressure {
		pressuresOf(&read.node).add(out, read.at, root)
	}
	addDisks(out, read.at, root)
	for i := range read.pods {
		s.addPod(out, &read, &read.pods[i])
	}
	s.addTold(r.Context(), out, read.pods)
	out.serve(w, r)
}

func (s *server) addPod(out *sheet, read *reading, p *podReading) {
	parent := s.Tree.PodPath(p.pod.Pod)
	labels := []string{"", parent, "", "", p.pod.Namespace, p.pod.Name}
	with := func(base []string, more string) []string { return append(append([]string(nil), base...), more) }
	out.add(detailCPU, read.at, float64(p.usage.CPUNanoseconds)/nano, with(labels, "total")...)
	out.add(detailUsage, read.at, float64(p.usage.MemoryBytes), labels...)
	out.add(detailWorking, read.at, float64(p.usage.WorkingSetBytes), labels...)
	out.add(detailRSS, read.at, float64(p.usage.RSSBytes), labels...)
	out.add(detailProcs, read.at, float64(p.usage.Processes), labels...)
	if read.pressure {
		pressuresOf(&p.usage).add(out, read.at, labels)
	}
	if n := p.network.GetDefaultInterface(); n != nil {
		out.add(networkIn, read.at, float64(n.GetRxBytes().GetValue()), with(labels, n.Name)...)
		out.add(networkOut, read.at, float64(n.GetTxBytes().GetValue()), with(labels, n.Name)...)
		out.add(networkInBad, read.at, float64(n.GetRxErrors().GetValue()), with(labels, n.Name)...)
		out.add(networkOutBad, read.at, float64(n.GetTxErrors().GetValue()), with(labels, n.Name)...)
	}
	for _, c := range p.containers {
		a := c.GetAttributes()
		image := ""
		seen := find(p.pod.Observed, a.GetId())
		if seen != nil {
			image = seen.Image
		}
		own := []string{a.GetLabels()[criconfig.ContainerNameLabel], parent + "/" + a.GetId(), image, a.GetId(), p.pod.Namespace, p.pod.Name}
		out.add(detailCPU, read.at, float64(c.GetCpu().GetUsageCoreNanoSeconds().GetValue())/nano, with(own, "total")...)
		out.add(detailUsage, read.at, float64(c.GetMemory().GetUsageBytes().GetValue()), own...)
		out.add(detailWorking, read.at, float64(c.GetMemory().GetWorkingSetBytes().GetValue()), own...)
		out.add(detailRSS, read.at, float64(c.GetMemory().GetRssBytes().GetValue()), own...)
		out.add(detailFS, read.at, float64(c.GetWritableLayer().GetUsedBytes().GetValue()), with(own, "")...)
		if read.pressure {
			containerPressures(c).add(out, read.at, own)
		}
		if seen != nil {
			out.add(detailStart, read.at, float64(seen.StartedAt.Unix()), own...)
		}
	}
}
