package cluster

import (
	"strings"
	"testing"
)

func TestStatusTellsWhatANodeLacks(t *testing.T) {
	s := &Status{Name: "c", Nodes: []NodeStatus{
		{Name: "a", Ready: true, Problems: []string{"DiskPressure"}}, {Name: "b", Ready: true, Unschedulable: true}, {Name: "c"}, {Name: "d", Ready: true},
	}}
	var out strings.Builder
	s.Print(&out)
	for _, want := range []string{"a      Ready,DiskPressure", "b      Ready,SchedulingDisabled", "c      NotReady", "d      Ready "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}
