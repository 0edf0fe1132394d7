// Package metrics holds what the managers of a node's resources count, under upstream's names.
//
//	m := metrics.New(registry)
//	m.CPUPinned.Inc()
package metrics

import "github.com/prometheus/client_golang/prometheus"

// Boundaries within which resources are aligned.
const (
	BoundaryNUMA   = "numa_node"
	BoundaryCore   = "physical_cpu"
	BoundaryUncore = "uncore_cache"
)

// Metrics are the counters.
type Metrics struct {
	// Aligned and Unaligned are by scope and boundary.
	Aligned, Unaligned *prometheus.CounterVec
	// Allocations and AllocationErrors are by resource and source, Assignments by resource and kind.
	Allocations, AllocationErrors, Assignments *prometheus.CounterVec

	TopologyRequests, TopologyErrors prometheus.Counter
	TopologyDuration                 prometheus.Histogram

	CPUPinned, CPUPinErrors prometheus.Counter
	SharedMilliCPUs         prometheus.Gauge
	ExclusiveCPUs           prometheus.Gauge
	ExclusiveByNUMA         *prometheus.GaugeVec

	MemoryPinned, MemoryPinErrors prometheus.Counter

	DeviceRegistrations *prometheus.CounterVec
	DeviceAllocation    *prometheus.HistogramVec

	// PodResources are requests to the PodResources API in total and by method, PodResourcesErrors those that failed.
	PodResources       *prometheus.CounterVec
	PodResourcesBy     map[string]*prometheus.CounterVec
	PodResourcesErrors map[string]*prometheus.CounterVec
}

// New makes and registers the metrics.
func New(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		Aligned:          counters("kubelet_container_aligned_compute_resources_count", "Cumulative number of aligned compute resources allocated to containers by alignment type.", "scope", "boundary"),
		Unaligned:        counters("kubelet_container_aligned_compute_resources_failure_count", "Cumulative number of failures to allocate aligned compute resources to containers by alignment type.", "scope", "boundary"),
		Allocations:      counters("resource_manager_allocations_total", "Number of exclusive resource allocations performed by a resource manager.", "resource_name", "source"),
		AllocationErrors: counters("resource_manager_allocation_errors_total", "Number of errors encountered during exclusive resource allocation.", "resource_name", "source"),
		Assignments:      counters("resource_manager_container_assignments", "Number of containers with a specific type of resource assignment.", "resource_name", "assignment_type"),

		TopologyRequests: counter("kubelet_topology_manager_admission_requests_total", "The number of admission requests where resources have to be aligned."),
		TopologyErrors:   counter("kubelet_topology_manager_admission_errors_total", "The number of admission request failures where resources could not be aligned."),
		TopologyDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubelet_topology_manager_admission_duration_ms", Help: "Duration in milliseconds to serve a pod admission request.", Buckets: prometheus.ExponentialBuckets(.05, 2, 15),
		}),

		CPUPinned:       counter("kubelet_cpu_manager_pinning_requests_total", "The number of cpu core allocations which required pinning."),
		CPUPinErrors:    counter("kubelet_cpu_manager_pinning_errors_total", "The number of cpu core allocations which required pinning failed."),
		SharedMilliCPUs: gauge("kubelet_cpu_manager_shared_pool_size_millicores", "The size of the shared CPU pool for non-guaranteed QoS pods, in millicores."),
		ExclusiveCPUs:   gauge("kubelet_cpu_manager_exclusive_cpu_allocation_count", "The total number of CPUs exclusively allocated to containers running on this node"),
		ExclusiveByNUMA: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubelet_cpu_manager_allocation_per_numa", Help: "Number of CPUs allocated per NUMA node"}, []string{BoundaryNUMA}),

		MemoryPinned:    counter("kubelet_memory_manager_pinning_requests_total", "The number of memory pages allocations which required pinning."),
		MemoryPinErrors: counter("kubelet_memory_manager_pinning_errors_total", "The number of memory pages allocations which required pinning that failed."),

		DeviceRegistrations: counters("kubelet_device_plugin_registration_total", "Cumulative number of device plugin registrations. Broken down by resource name.", "resource_name"),
		DeviceAllocation: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubelet_device_plugin_alloc_duration_seconds", Help: "Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.", Buckets: prometheus.DefBuckets,
		}, []string{"resource_name"}),

		PodResources:       counters("kubelet_pod_resources_endpoint_requests_total", "Cumulative number of requests to the PodResource endpoint. Broken down by server api version.", "server_api_version"),
		PodResourcesBy:     map[string]*prometheus.CounterVec{},
		PodResourcesErrors: map[string]*prometheus.CounterVec{},
	}
	registry.MustRegister(m.Aligned, m.Unaligned, m.Allocations, m.AllocationErrors, m.Assignments, m.TopologyRequests, m.TopologyErrors, m.TopologyDuration,
		m.CPUPinned, m.CPUPinErrors, m.SharedMilliCPUs, m.ExclusiveCPUs, m.ExclusiveByNUMA, m.MemoryPinned, m.MemoryPinErrors,
		m.DeviceRegistrations, m.DeviceAllocation, m.PodResources)
	for method, name := range map[string]string{"List": "list", "Get": "get", "GetAllocatableResources": "get_allocatable"} {
		m.PodResourcesBy[method] = counters("kubelet_pod_resources_endpoint_requests_"+name, "Number of requests to the PodResource "+method+" endpoint. Broken down by server api version.", "server_api_version")
		m.PodResourcesErrors[method] = counters("kubelet_pod_resources_endpoint_errors_"+name, "Number of requests to the PodResource "+method+" endpoint which returned error. Broken down by server api version.", "server_api_version")
		registry.MustRegister(m.PodResourcesBy[method], m.PodResourcesErrors[method])
	}
	return m
}

// ShowAlignment makes a boundary's counters visible before anything is counted.
func (m *Metrics) ShowAlignment(boundary string, scopes ...string) {
	for _, scope := range scopes {
		m.Aligned.WithLabelValues(scope, boundary)
		m.Unaligned.WithLabelValues(scope, boundary)
	}
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}
