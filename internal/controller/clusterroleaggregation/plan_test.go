package clusterroleaggregation

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"

	"clipper.dev/clipper/internal/authz/bootstrap"
)

// The bootstrap roles came from a running upstream cluster, so its controller's work is in them: ours has nothing to add.
func TestAggregationGivesWhatUpstreamsGives(t *testing.T) {
	o, err := bootstrap.Load()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, r := range o.ClusterRoles {
		if r.AggregationRule == nil {
			continue
		}
		seen++
		got, err := aggregated(r, o.ClusterRoles)
		if err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(got, r.Rules) {
			t.Errorf("%s: got %d rules, want %d", r.Name, len(got), len(r.Rules))
		}
	}
	if seen != 3 {
		t.Errorf("%d roles aggregate", seen)
	}
}
