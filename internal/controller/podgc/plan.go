package podgc

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/controller/podcontrol"
)

// excess returns the pods that have ended and are more than may be kept: evicted ones first, then the oldest.
func excess(ended []*corev1.Pod, keep int) []*corev1.Pod {
	if len(ended) <= keep {
		return nil
	}
	sorted := slices.Clone(ended)
	slices.SortFunc(sorted, func(a, b *corev1.Pod) int {
		if ea, eb := a.Status.Reason == "Evicted", b.Status.Reason == "Evicted"; ea != eb {
			if ea {
				return -1
			}
			return 1
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return sorted[:len(sorted)-keep]
}

// verdict is what is due for one pod.
type verdict int

const (
	keep     verdict = iota
	unbound          // being deleted, and it never had a node
	stranded         // being deleted on a node that is out of service
	orphaned         // its node doesn't exist
)

// judge decides about a pod. node is nil if it doesn't exist.
func judge(pod *corev1.Pod, node *corev1.Node) verdict {
	switch {
	case pod.Spec.NodeName == "" && pod.DeletionTimestamp != nil:
		return unbound
	case pod.Spec.NodeName == "":
		return keep
	case node == nil:
		return orphaned
	case pod.DeletionTimestamp != nil && outOfService(node):
		return stranded
	}
	return keep
}

func outOfService(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return false
		}
	}
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// lost tells what a pod's condition says when it is removed although it never ended; empty if it doesn't say anything.
func (v verdict) lost(pod *corev1.Pod) string {
	if podcontrol.Terminal(pod) {
		return ""
	}
	switch v {
	case orphaned:
		return "PodGC: node no longer exists"
	case stranded:
		return "PodGC: terminating pod on out-of-service node"
	}
	return ""
}
