package tainteviction

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// deadline tells when a pod must go because of its node's taints; nil if it may stay.
func deadline(pod *corev1.Pod, node *corev1.Node) *time.Time {
	var first *time.Time
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if taint.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		at := since(pod, taint)
		seconds, forever := tolerated(pod, taint)
		if forever {
			continue
		}
		at = at.Add(seconds)
		if first == nil || at.Before(*first) {
			first = &at
		}
	}
	return first
}

// since is when a taint and a pod met.
func since(pod *corev1.Pod, taint *corev1.Taint) time.Time {
	at := pod.CreationTimestamp.Time
	if taint.TimeAdded != nil && taint.TimeAdded.After(at) {
		at = taint.TimeAdded.Time
	}
	return at
}

// tolerated is how long a pod tolerates a taint: the least of what its matching tolerations say, which is for ever if none of
// them names a time, and no time at all if none matches.
func tolerated(pod *corev1.Pod, taint *corev1.Taint) (least time.Duration, forever bool) {
	matched, limited := false, false
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		if !t.ToleratesTaint(klog.Background(), taint, false) {
			continue
		}
		matched = true
		if t.TolerationSeconds == nil {
			continue
		}
		d := max(time.Duration(*t.TolerationSeconds)*time.Second, 0)
		if !limited || d < least {
			least, limited = d, true
		}
	}
	return least, matched && !limited
}
