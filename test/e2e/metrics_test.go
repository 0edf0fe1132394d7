package e2e

import (
	"slices"
	"strings"
	"testing"
)

func TestMetricsTellOfTheProcess(t *testing.T) {
	node := strings.TrimSpace(kubectl(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"))
	for _, path := range []string{"/metrics", "/api/v1/nodes/" + node + "/proxy/metrics"} {
		lines := strings.Split(kubectl(t, "get", "--raw", path), "\n")
		for _, name := range []string{"go_goroutines", "go_gc_heap_live_bytes", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"} {
			if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+" ") && line != name+" 0" }) {
				t.Errorf("%s tells no %s", path, name)
			}
		}
	}
}
