package lifecycle

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// MinimumGrace is the least time that a container gets to end by itself, in seconds.
const MinimumGrace = 2

// GracePeriod returns how many seconds a container gets to end.
func GracePeriod(pod *corev1.Pod, c *corev1.Container, reason KillReason) int64 {
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		return *pod.DeletionGracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds == nil:
		return MinimumGrace
	}
	switch {
	case reason == KillStartupProbe && c.StartupProbe != nil && c.StartupProbe.TerminationGracePeriodSeconds != nil:
		return *c.StartupProbe.TerminationGracePeriodSeconds
	case reason == KillLivenessProbe && c.LivenessProbe != nil && c.LivenessProbe.TerminationGracePeriodSeconds != nil:
		return *c.LivenessProbe.TerminationGracePeriodSeconds
	}
	return *pod.Spec.TerminationGracePeriodSeconds
}

// PodGracePeriod returns how many seconds a pod that is being ended gets, given what somebody asked for (nil is nothing). Once shortened it never grows again,
// which current says (0 is not set yet). It's at least one second.
func PodGracePeriod(pod *corev1.Pod, asked *int64, current int64) int64 {
	grace := current
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil {
		if g := *pod.DeletionGracePeriodSeconds; grace == 0 || g < grace {
			grace = g
		}
	}
	if asked != nil && (grace == 0 || *asked < grace) {
		grace = *asked
	}
	if grace == 0 && pod.Spec.TerminationGracePeriodSeconds != nil && asked == nil && pod.DeletionTimestamp == nil {
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	return max(grace, 1)
}

// StopsAfter returns the containers, out of those that run, that have to be gone before this one is stopped: a sidecar outlives what it serves,
// regular containers and sidecars that started later.
func StopsAfter(pod *corev1.Pod, name string, running []string) []string {
	at := slices.IndexFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name && IsSidecar(&c) })
	if at < 0 {
		return nil
	}
	var out []string
	for _, other := range running {
		i := slices.IndexFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == other })
		regular := slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == other })
		if other != name && (regular || i > at) {
			out = append(out, other)
		}
	}
	return out
}
