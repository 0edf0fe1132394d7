package metrics

import (
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The labels that metrics have in common, in the order of their values.
var (
	baseLabels    = []string{"pod", "namespace", "container", "id", "image"}
	deviceLabel   = []string{"device"}
	networkLabel  = []string{"interface"}
	blockLabels   = []string{"device", "major", "minor", "operation"}
	failureLabels = []string{"failure_type", "scope"}
	ulimitLabel   = []string{"ulimit"}
)

const (
	counter = runtimeapi.MetricType_COUNTER
	gauge   = runtimeapi.MetricType_GAUGE
)

// descriptor is a metric that may be told.
type descriptor struct {
	name   string
	kind   runtimeapi.MetricType
	labels []string // besides the common ones
	help   string
}

var descriptors = []descriptor{
	{"container_cpu_user_seconds_total", counter, nil, "Cumulative user cpu time consumed in seconds."},
	{"container_cpu_system_seconds_total", counter, nil, "Cumulative system cpu time consumed in seconds."},
	{"container_cpu_usage_seconds_total", counter, nil, "Cumulative cpu time consumed in seconds."},
	{"container_cpu_cfs_periods_total", counter, nil, "Number of elapsed enforcement period intervals."},
	{"container_cpu_cfs_throttled_periods_total", counter, nil, "Number of throttled period intervals."},
	{"container_cpu_cfs_throttled_seconds_total", counter, nil, "Total time duration the container has been throttled."},
	{"container_cpu_cfs_burst_periods_total", counter, nil, "Number of periods when burst occurs."},
	{"container_cpu_cfs_burst_seconds_total", counter, nil, "Total time duration the container has been bursted."},

	{"container_memory_cache", gauge, nil, "Number of bytes of page cache memory."},
	{"container_memory_rss", gauge, nil, "Size of RSS in bytes."},
	{"container_memory_kernel_usage", gauge, nil, "Size of kernel memory allocated in bytes."},
	{"container_memory_mapped_file", gauge, nil, "Size of memory mapped files in bytes."},
	{"container_memory_swap", gauge, nil, "Container swap usage in bytes."},
	{"container_memory_failcnt", counter, nil, "Number of memory usage hits limits"},
	{"container_memory_usage_bytes", gauge, nil, "Current memory usage in bytes, including all memory regardless of when it was accessed"},
	{"container_memory_max_usage_bytes", gauge, nil, "Maximum memory usage recorded in bytes"},
	{"container_memory_working_set_bytes", gauge, nil, "Current working set in bytes."},
	{"container_memory_total_active_file_bytes", gauge, nil, "Current total active file in bytes."},
	{"container_memory_total_inactive_file_bytes", gauge, nil, "Current total inactive file in bytes."},
	{"container_memory_failures_total", counter, failureLabels, "Cumulative count of memory allocation failures."},
	{"container_oom_events_total", counter, nil, "Count of out of memory events observed for the container"},

	{"container_network_receive_bytes_total", counter, networkLabel, "Cumulative count of bytes received"},
	{"container_network_receive_packets_total", counter, networkLabel, "Cumulative count of packets received"},
	{"container_network_receive_packets_dropped_total", counter, networkLabel, "Cumulative count of packets dropped while receiving"},
	{"container_network_receive_errors_total", counter, networkLabel, "Cumulative count of errors encountered while receiving"},
	{"container_network_transmit_bytes_total", counter, networkLabel, "Cumulative count of bytes transmitted"},
	{"container_network_transmit_packets_total", counter, networkLabel, "Cumulative count of packets transmitted"},
	{"container_network_transmit_packets_dropped_total", counter, networkLabel, "Cumulative count of packets dropped while transmitting"},
	{"container_network_transmit_errors_total", counter, networkLabel, "Cumulative count of errors encountered while transmitting"},

	{"container_fs_inodes_free", gauge, deviceLabel, "Number of available Inodes"},
	{"container_fs_inodes_total", gauge, deviceLabel, "Number of Inodes"},
	{"container_fs_limit_bytes", gauge, deviceLabel, "Number of bytes that can be consumed by the container on this filesystem."},
	{"container_fs_usage_bytes", gauge, deviceLabel, "Number of bytes that are consumed by the container on this filesystem."},

	{"container_fs_reads_bytes_total", counter, deviceLabel, "Cumulative count of bytes read"},
	{"container_fs_reads_total", counter, deviceLabel, "Cumulative count of reads completed"},
	{"container_fs_writes_bytes_total", counter, deviceLabel, "Cumulative count of bytes written"},
	{"container_fs_writes_total", counter, deviceLabel, "Cumulative count of writes completed"},
	{"container_blkio_device_usage_total", counter, blockLabels, "Blkio Device bytes usage"},

	{"container_processes", gauge, nil, "Number of processes running inside the container."},
	{"container_file_descriptors", gauge, nil, "Number of open file descriptors for the container."},
	{"container_sockets", gauge, nil, "Number of open sockets for the container."},
	{"container_threads_max", gauge, nil, "Maximum number of threads allowed inside the container, infinity if value is zero"},
	{"container_threads", gauge, nil, "Number of threads running inside the container"},
	{"container_ulimits_soft", gauge, ulimitLabel, "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice"},

	{"container_last_seen", gauge, nil, "Last time a container was seen by the exporter"},
	{"container_start_time_seconds", gauge, nil, "Start time of the container since unix epoch in seconds."},

	{"container_spec_cpu_period", gauge, nil, "CPU period of the container."},
	{"container_spec_cpu_quota", gauge, nil, "CPU quota of the container."},
	{"container_spec_cpu_shares", gauge, nil, "CPU share of the container."},
	{"container_spec_memory_limit_bytes", gauge, nil, "Memory limit for the container."},
	{"container_spec_memory_reservation_limit_bytes", gauge, nil, "Memory reservation limit for the container."},
	{"container_spec_memory_swap_limit_bytes", gauge, nil, "Memory swap limit for the container."},
}

// kinds are the metrics' kinds by name.
var kinds = func() map[string]runtimeapi.MetricType {
	byName := map[string]runtimeapi.MetricType{}
	for _, d := range descriptors {
		byName[d.name] = d.kind
	}
	return byName
}()

// Kind tells whether a metric is a counter or a gauge.
func Kind(name string) runtimeapi.MetricType { return kinds[name] }

// Descriptors lists all metrics that a set may have.
func Descriptors() []*runtimeapi.MetricDescriptor {
	list := make([]*runtimeapi.MetricDescriptor, 0, len(descriptors))
	for _, d := range descriptors {
		list = append(list, &runtimeapi.MetricDescriptor{Name: d.name, Help: d.help, LabelKeys: slices.Concat(baseLabels, d.labels)})
	}
	return list
}
