package lifecycle

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// JoinResources writes what a container is granted in short; see Container.Applied.
func JoinResources(cpuRequest, cpuLimit, memoryLimit int64) string {
	return fmt.Sprintf("%d/%d/%d", cpuRequest, cpuLimit, memoryLimit)
}

// resizeRestarts tells whether the change from one grant to another restarts the container, by its resize policies.
func resizeRestarts(c *corev1.Container, from, to string) bool {
	cpu := func(s string) string { return s[:max(strings.LastIndexByte(s, '/'), 0)] }
	memory := func(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }
	for _, p := range c.ResizePolicy {
		if p.RestartPolicy != corev1.RestartContainer {
			continue
		}
		switch p.ResourceName {
		case corev1.ResourceCPU:
			if cpu(from) != cpu(to) {
				return true
			}
		case corev1.ResourceMemory:
			if memory(from) != memory(to) {
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
