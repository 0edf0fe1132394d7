package metrics

import (
	"os"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Set collects the metrics of one container, or of a pod as a whole.
type Set struct {
	List []*runtimeapi.Metric

	at     time.Time
	labels []string
}

// NewSet begins a set. A pod as a whole has neither container nor image, and its own ID.
func NewSet(pod, namespace, container, id, image string) *Set {
	return &Set{at: time.Now(), labels: []string{pod, namespace, container, id, image}}
}

func (s *Set) add(name string, value uint64, labels ...string) {
	kind, ok := kinds[name]
	if !ok {
		panic("metric without a descriptor: " + name)
	}
	s.List = append(s.List, &runtimeapi.Metric{
		Name: name, MetricType: kind, Timestamp: s.at.UnixNano(), LabelValues: slices.Concat(s.labels, labels), Value: &runtimeapi.UInt64Value{Value: value},
	})
}

// AddTimes tells since when a container runs.
func (s *Set) AddTimes(started time.Time) {
	s.add("container_last_seen", uint64(s.at.Unix()))
	s.add("container_start_time_seconds", uint64(started.Unix()))
}

// Filesystem is what a container's own layer takes of the file system that it lies on.
type Filesystem struct {
	UsedBytes, LimitBytes, Inodes uint64
}

// AddFilesystem tells what a container's own files take.
func (s *Set) AddFilesystem(fs Filesystem) {
	const root = "/"
	s.add("container_fs_usage_bytes", fs.UsedBytes, root)
	s.add("container_fs_limit_bytes", fs.LimitBytes, root)
	s.add("container_fs_inodes_total", fs.Inodes, root)
	s.add("container_fs_inodes_free", 0, root) // cAdvisor's answer for a layer: what the whole disk has free is the node's number
}

// AddLimits tells what a container is held to, as far as anything holds it.
func (s *Set) AddLimits(process []specs.POSIXRlimit, resources *specs.LinuxResources) {
	for _, limit := range process {
		s.add("container_ulimits_soft", limit.Soft, limit.Type)
	}
	if cpu := resources.CPU; cpu != nil {
		s.addIfSet("container_spec_cpu_period", cpu.Period)
		if cpu.Quota != nil && *cpu.Quota > 0 {
			s.add("container_spec_cpu_quota", uint64(*cpu.Quota))
		}
		s.addIfSet("container_spec_cpu_shares", cpu.Shares)
	}
	if memory := resources.Memory; memory != nil {
		bound := func(name string, bytes *int64) { // none is told as 0
			if bytes == nil {
				bytes = new(int64)
			}
			s.add(name, uint64(max(*bytes, 0))&^uint64(os.Getpagesize()-1)) // the kernel keeps whole pages
		}
		bound("container_spec_memory_limit_bytes", memory.Limit)
		bound("container_spec_memory_reservation_limit_bytes", memory.Reservation)
		bound("container_spec_memory_swap_limit_bytes", memory.Swap)
	}
}

func (s *Set) addIfSet(name string, value *uint64) {
	if value != nil {
		s.add(name, *value)
	}
}
