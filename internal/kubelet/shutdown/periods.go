package shutdown

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// criticalPriority is the least priority of the system's critical pods.
const criticalPriority = 2000000000

// Period is the time that pods of a priority, and of those up to the next period's, have to end.
type Period struct {
	Priority int32
	Grace    time.Duration
}

// Periods divides a time into one for ordinary pods and, at its end, one for critical pods. Nothing is given where the times make no sense.
func Periods(total, critical time.Duration) []Period {
	if total <= 0 || critical < 0 || critical > total {
		return nil
	}
	return []Period{{0, total - critical}, {criticalPriority, critical}}
}

// sorted orders the periods by their priorities.
func sorted(periods []Period) []Period {
	out := slices.Clone(periods)
	slices.SortFunc(out, func(a, b Period) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

// total is the time that all periods take.
func total(periods []Period) time.Duration {
	var sum time.Duration
	for _, p := range periods {
		sum += p.Grace.Truncate(time.Second)
	}
	return sum
}

// group divides pods among sorted periods: to each the one of the highest priority that isn't above the pod's own, or else the lowest.
func group(periods []Period, pods []*corev1.Pod) [][]*corev1.Pod {
	out := make([][]*corev1.Pod, len(periods))
	for _, pod := range pods {
		at := 0
		for i, p := range periods {
			if pod.Spec.Priority != nil && p.Priority <= *pod.Spec.Priority || p.Priority <= 0 && pod.Spec.Priority == nil {
				at = i
			}
		}
		out[at] = append(out[at], pod)
	}
	return out
}
