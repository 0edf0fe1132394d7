package e2e

import (
	"slices"
	"strings"
	"testing"
)

func TestTheServerKeepsToItsFlowSchemas(t *testing.T) {
	kubectl(t, "wait", "flowschemas", "--all", "--for=condition=Dangling=False", "--timeout=60s")
	levels := kubectl(t, "get", "--raw", "/debug/api_priority_and_fairness/dump_priority_levels")
	for _, name := range []string{"exempt", "leader-election", "node-high", "system", "workload-high", "workload-low", "global-default", "catch-all"} {
		if !strings.Contains(levels, "\n"+name+",") {
			t.Errorf("no level %s in\n%s", name, levels)
		}
	}
	// The administrator who asks is exempt; requests are counted where they belong.
	metrics := strings.Split(kubectl(t, "get", "--raw", "/metrics"), "\n")
	if !slices.ContainsFunc(metrics, func(line string) bool {
		return strings.HasPrefix(line, `apiserver_flowcontrol_dispatched_requests_total{flow_schema="exempt",priority_level="exempt"} `)
	}) {
		t.Error("no request is counted as exempt")
	}
}
