package metrics

import (
	"maps"
	"os"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestDescriptorsAreUniqueAndMetricsHaveTheirLabels(t *testing.T) {
	labels := map[string]int{}
	for _, d := range Descriptors() {
		if _, twice := labels[d.Name]; twice {
			t.Errorf("%s is there twice", d.Name)
		}
		labels[d.Name] = len(d.LabelKeys)
	}
	for _, unified := range []bool{false, true} {
		set := NewSet("p", "ns", "c", "id", "img")
		set.AddCgroup(Cgroup{Path: "/", Unified: unified})
		set.AddFilesystem(Filesystem{})
		set.AddInterfaces([]Interface{{Name: "eth0"}})
		for _, m := range set.List {
			if want, ok := labels[m.Name]; !ok || want != len(m.LabelValues) {
				t.Errorf("%s has the labels %v", m.Name, m.LabelValues)
			}
		}
	}
}

func TestTheDiskOfAContainersFilesIsToldOfThoughUnused(t *testing.T) {
	for _, unified := range []bool{false, true} {
		set := NewSet("p", "ns", "c", "id", "img")
		set.addIO(Cgroup{Path: "/none", Unified: unified, Disk: "8:1"})
		got := map[string]int{}
		for _, m := range set.List {
			if m.Value.Value != 0 {
				t.Errorf("%s = %d, want nothing", m.Name, m.Value.Value)
			}
			got[m.Name]++
		}
		want := map[string]int{
			"container_blkio_device_usage_total": 2, "container_fs_reads_bytes_total": 1, "container_fs_reads_total": 1,
			"container_fs_writes_bytes_total": 1, "container_fs_writes_total": 1,
		}
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestMemoryLimitsAreWholePages(t *testing.T) {
	set := NewSet("p", "ns", "c", "id", "img")
	limit := int64(80_000_000)
	set.AddLimits(nil, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
	i := slices.IndexFunc(set.List, func(m *runtimeapi.Metric) bool { return m.Name == "container_spec_memory_limit_bytes" })
	if got := set.List[i].Value.Value; got > uint64(limit) || got%uint64(os.Getpagesize()) != 0 {
		t.Errorf("limit %d is told as %d", limit, got)
	}
}

func TestInterfacesAreReadWithoutLoopback(t *testing.T) {
	got := parseInterfaces(`Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       1       2    3    4    0     0          0         0        5       6    7    8    0     0       0          0
  eth0:      11      12   13   14    0     0          0         0       15      16   17   18    0     0       0          0
`)
	want := []Interface{{Name: "eth0", Receive: Traffic{11, 12, 13, 14}, Transmit: Traffic{15, 16, 17, 18}}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
