package podcontrol

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// phaseOrder says in which order pods are given up by phase.
var phaseOrder = map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}

// ToDelete returns n of the pods: those whose loss costs least. A pod is given up before another if, in this order: it has no
// node and the other has; its phase is earlier; it isn't ready and the other is; its deletion cost is lower; more of the related
// pods are on its node; it became ready later; its containers restarted more often; it was created later. Times are compared by the
// order of magnitude of the age, so that pods of about the same age are given up at random.
func ToDelete(pods, related []*corev1.Pod, n int, now time.Time) []*corev1.Pod {
	if n >= len(pods) {
		return pods
	}
	onNode := map[string]int{}
	for _, p := range related {
		if Active(p) {
			onNode[p.Spec.NodeName]++
		}
	}
	sorted := slices.Clone(pods)
	slices.SortStableFunc(sorted, func(a, b *corev1.Pod) int {
		return compare(a, b, onNode[a.Spec.NodeName], onNode[b.Spec.NodeName], now)
	})
	return sorted[:n]
}

func compare(a, b *corev1.Pod, rankA, rankB int, now time.Time) int {
	if c := cmp.Or(
		first(a.Spec.NodeName == "", b.Spec.NodeName == ""),
		cmp.Compare(phaseOrder[a.Status.Phase], phaseOrder[b.Status.Phase]),
		first(!Ready(a), !Ready(b)),
		cmp.Compare(deletionCost(a), deletionCost(b)),
		cmp.Compare(rankB, rankA),
	); c != 0 {
		return c
	}
	if Ready(a) && Ready(b) {
		if c := compareAge(readyTime(a).Time, readyTime(b).Time, a, b, now); c != 0 {
			return c
		}
	}
	regularA, sidecarA := restarts(a)
	regularB, sidecarB := restarts(b)
	return cmp.Or(
		cmp.Compare(regularB, regularA),
		cmp.Compare(sidecarB, sidecarA),
		compareAge(a.CreationTimestamp.Time, b.CreationTimestamp.Time, a, b, now),
	)
}

// first orders what is true before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// compareAge orders the younger first. Ages of the same power of two are as good as equal, and the UID decides, which is random.
func compareAge(a, b time.Time, podA, podB *corev1.Pod, now time.Time) int {
	if a.Equal(b) {
		return 0
	}
	if a.IsZero() || b.IsZero() {
		return first(a.IsZero(), b.IsZero())
	}
	return cmp.Or(cmp.Compare(magnitude(now.Sub(a)), magnitude(now.Sub(b))), cmp.Compare(podA.UID, podB.UID))
}

func magnitude(d time.Duration) int64 {
	if d <= 0 {
		return -1
	}
	return int64(math.Log2(float64(d)))
}

func deletionCost(pod *corev1.Pod) int32 {
	value, ok := pod.Annotations[corev1.PodDeletionCost]
	if !ok {
		return 0
	}
	cost, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return 0
	}
	return int32(cost)
}

// restarts returns the most restarts of a regular container and of a sidecar.
func restarts(pod *corev1.Pod) (regular, sidecar int32) {
	for _, s := range pod.Status.ContainerStatuses {
		regular = max(regular, s.RestartCount)
	}
	always := map[string]bool{}
	for _, c := range pod.Spec.InitContainers {
		always[c.Name] = c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	}
	for _, s := range pod.Status.InitContainerStatuses {
		if always[s.Name] {
			sidecar = max(sidecar, s.RestartCount)
		}
	}
	return regular, sidecar
}
