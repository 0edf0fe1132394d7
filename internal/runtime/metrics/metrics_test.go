package metrics

import (
	"slices"
	"testing"
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
