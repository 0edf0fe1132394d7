package lifecycle

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// JoinResources writes what a container is granted in short; see Container.Applied.
func JoinResources(cpuRequest, cpuLimit, memoryRequest, memoryLimit int64) string {
	return fmt.Sprintf("%d/%d %d/%d", cpuRequest, cpuLimit, memoryRequest, memoryLimit)
}

// resizeRestarts tells whether the change from one grant to another restarts the container, by its resize policies.
func resizeRestarts(c *corev1.Container, from, to string) bool {
	formerCPU, formerMemory, _ := strings.Cut(from, " ")
	cpu, memory, _ := strings.Cut(to, " ")
	for _, p := range c.ResizePolicy {
		if p.RestartPolicy != corev1.RestartContainer {
			continue
		}
		switch p.ResourceName {
		case corev1.ResourceCPU:
			if cpu != formerCPU {
				return true
			}
		case corev1.ResourceMemory:
			if memory != formerMemory {
				return true
			}
		}
	}
	return false
}

// resized tells what a running container's grant needs: nothing, a change in place, or a restart.
func resized(in Input, c *corev1.Container, seen *Container) (inPlace, restart bool) {
	if in.Resources == nil || seen.Applied == "" {
		return false, false
	}
	want := in.Resources(c)
	if want == seen.Applied {
		return false, false
	}
	restart = resizeRestarts(c, seen.Applied, want)
	return !restart, restart
}
