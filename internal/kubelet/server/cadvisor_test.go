package server

import (
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/exposition/expositiontest"
	"clipper.dev/clipper/internal/runtime/metrics"
)

// TestMetricsOfContainersAreCadvisors holds all that /metrics/cadvisor may show, with what the built-in runtime tells, against what cAdvisor shows
// in upstream's kubelet of containers that have everything.
func TestMetricsOfContainersAreCadvisors(t *testing.T) {
	page := expositiontest.Page{List: "../testdata/cadvisor.tsv", Unserved: "../testdata/cadvisor-unserved.yaml", Components: []string{"kubelet"}, Endpoint: "/metrics/cadvisor"}
	out := &sheet{}
	for _, f := range []family{
		machineCores, machineWhole, machineSockets, machineMemory, machineSwap, machineFailure, machineVersion,
		detailCPU, detailUsage, detailWorking, detailRSS, detailFS, detailStart, detailProcs, detailFailure, networkIn, networkOut, networkInBad, networkOutBad,
		cpuStalled, cpuWaiting, memoryStalled, memoryWaiting, ioStalled, ioWaiting,
	} {
		out.addEmpty(f)
	}
	for _, d := range diskFamilies {
		out.addEmpty(d.family)
	}
	here := len(out.metrics)
	told := newTranslation(metrics.Descriptors())
	for _, d := range metrics.Descriptors() {
		told.add(out, []*runtimeapi.Metric{{Name: d.Name, MetricType: metrics.Kind(d.Name), LabelValues: make([]string, len(d.LabelKeys)), Value: &runtimeapi.UInt64Value{}}}, "", "")
	}
	if len(out.metrics) == here {
		t.Error("the runtime tells nothing")
	}
	w := httptest.NewRecorder()
	out.serve(w, httptest.NewRequest("GET", page.Endpoint, nil))
	page.Compare(t, map[string]expositiontest.Description{}, expositiontest.Parse(t, w.Body.Bytes()))
}

// addEmpty adds a series of a family whose labels all have values, to be seen.
func (s *sheet) addEmpty(f family) {
	for n := 0; ; n++ {
		values := make([]string, n)
		for i := range values {
			values[i] = "v"
		}
		if m, err := prometheus.NewConstMetric(f.desc, f.kind, 0, values...); err == nil {
			s.metrics = append(s.metrics, m)
			return
		}
	}
}
