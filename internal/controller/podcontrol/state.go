package podcontrol

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Terminal tells whether a pod has ended for good.
func Terminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Active tells whether a pod counts as a replica: it has not ended and isn't being deleted.
func Active(pod *corev1.Pod) bool {
	return !Terminal(pod) && pod.DeletionTimestamp == nil
}

// Terminating tells whether a pod is being deleted and has not ended yet.
func Terminating(pod *corev1.Pod) bool {
	return !Terminal(pod) && pod.DeletionTimestamp != nil
}

// Condition returns a condition of a pod, nil if it has none of the type.
func Condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// Ready tells whether a pod's Ready condition is true.
func Ready(pod *corev1.Pod) bool {
	c := Condition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Available tells whether a pod has been ready for minReadySeconds.
func Available(pod *corev1.Pod, minReadySeconds int32, now time.Time) bool {
	after := AvailableAfter(pod, minReadySeconds, now)
	return after != nil && *after <= 0
}

// AvailableAfter returns how long it is until a pod becomes available if it stays ready: not positive for
// one that is available, nil for one that isn't ready.
func AvailableAfter(pod *corev1.Pod, minReadySeconds int32, now time.Time) *time.Duration {
	c := Condition(pod, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return nil
	}
	var wait time.Duration
	if minReadySeconds > 0 {
		if c.LastTransitionTime.IsZero() {
			return nil
		}
		wait = c.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second).Sub(now)
	}
	return &wait
}

// Filter returns the pods that keep accepts.
func Filter(pods []*corev1.Pod, keep func(*corev1.Pod) bool) []*corev1.Pod {
	out := make([]*corev1.Pod, 0, len(pods))
	for _, p := range pods {
		if keep(p) {
			out = append(out, p)
		}
	}
	return out
}

func readyTime(pod *corev1.Pod) metav1.Time {
	c := Condition(pod, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return metav1.Time{}
	}
	return c.LastTransitionTime
}
