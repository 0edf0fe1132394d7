package cgroups

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// TellsPressure tells whether groups have pressure: version 2, and a kernel that counts it.
func (t *Tree) TellsPressure() bool {
	_, err := os.Stat(filepath.Join(fsRoot, "cpu.pressure"))
	return t.v2 && err == nil
}

// readPressure reads how much of the time the tasks of a group waited. A kernel that doesn't count it has no such file: all is zero then, as upstream tells it.
func readPressure(path string) (out stats.PSIStats) {
	data, err := os.ReadFile(path)
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(data)) {
		var kind string
		var p stats.PSIData
		if n, _ := fmt.Sscanf(line, "%s avg10=%f avg60=%f avg300=%f total=%d", &kind, &p.Avg10, &p.Avg60, &p.Avg300, &p.Total); n != 5 {
			continue
		}
		switch kind {
		case "some":
			out.Some = p
		case "full":
			out.Full = p
		}
	}
	return out
}
