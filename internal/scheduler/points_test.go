package scheduler

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"clipper.dev/clipper/internal/exposition/expositiontest"
)

func TestExtensionPointsAreMeasured(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry, DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	s := newCore(DefaultName)
	s.points = m.points
	s.setNode(testNode("a", "4", "8Gi"), start)
	s.setPod(testPod("fits", "1", "1Gi"), start)
	s.setPod(testPod("large", "100", "1Gi"), start)
	for range 2 {
		mustDecide(t, s, start)
	}
	seen := map[string]uint64{}
	shown := expositiontest.Gather(t, registry)
	for _, series := range shown["scheduler_framework_extension_point_duration_seconds"].GetMetric() {
		labels := map[string]string{}
		for _, l := range series.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if n := series.GetHistogram().GetSampleCount(); n > 0 {
			seen[labels["extension_point"]+" "+labels["status"]] = n
		}
	}
	for name, want := range map[string]uint64{"PreFilter Success": 2, "Filter Success": 1, "Filter Unschedulable": 1, "Score Success": 1, "PostFilter Unschedulable": 1} {
		if seen[name] != want {
			t.Errorf("%s: %d times, not %d", name, seen[name], want)
		}
	}
	if n := expositiontest.Sum(shown["scheduler_plugin_evaluation_total"]); n < 4 {
		t.Errorf("plugins have judged %v times", n)
	}
}
