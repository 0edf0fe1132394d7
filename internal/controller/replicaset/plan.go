package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/controller/podcontrol"
)

// burst bounds how many pods one reconciliation creates or deletes.
const burst = 500

// plan is what to do about a set's pods.
type plan struct {
	create int
	delete []*corev1.Pod
}

// makePlan compares the active pods of a set with the number it asks for. related are the pods of all sets with the same owner.
func makePlan(replicas int32, active, related []*corev1.Pod, now time.Time) plan {
	switch diff := len(active) - int(replicas); {
	case diff < 0:
		return plan{create: min(-diff, burst)}
	case diff > 0:
		return plan{delete: podcontrol.ToDelete(active, related, min(diff, burst), now)}
	}
	return plan{}
}

// makeStatus computes a set's status from its pods. acted is the error of carrying the plan out. next is the time until
// another pod becomes available by waiting alone, 0 if none will.
func makeStatus(rs *appsv1.ReplicaSet, active []*corev1.Pod, terminating int, acted error, now time.Time) (status appsv1.ReplicaSetStatus, next time.Duration) {
	status = *rs.Status.DeepCopy()
	status.ObservedGeneration = rs.Generation
	status.Replicas = int32(len(active))
	status.FullyLabeledReplicas, status.ReadyReplicas, status.AvailableReplicas = 0, 0, 0
	gone := int32(terminating)
	status.TerminatingReplicas = &gone
	template := labels.SelectorFromSet(rs.Spec.Template.Labels)
	for _, p := range active {
		if template.Matches(labels.Set(p.Labels)) {
			status.FullyLabeledReplicas++
		}
		wait := podcontrol.AvailableAfter(p, rs.Spec.MinReadySeconds, now)
		if podcontrol.Ready(p) {
			status.ReadyReplicas++
		}
		switch {
		case wait == nil:
		case *wait <= 0:
			status.AvailableReplicas++
		case next == 0 || *wait < next:
			next = *wait
		}
	}
	setFailure(&status, len(active) < int(*rs.Spec.Replicas), acted, now)
	return status, next
}

// setFailure keeps the condition ReplicaFailure as long as pods can't be created or deleted.
func setFailure(status *appsv1.ReplicaSetStatus, creating bool, acted error, now time.Time) {
	index := -1
	for i, c := range status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure {
			index = i
		}
	}
	switch {
	case acted == nil && index >= 0:
		status.Conditions = append(status.Conditions[:index], status.Conditions[index+1:]...)
	case acted != nil && index < 0:
		reason := "FailedDelete"
		if creating {
			reason = "FailedCreate"
		}
		status.Conditions = append(status.Conditions, appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetReplicaFailure,
			Status: corev1.ConditionTrue, Reason: reason, Message: acted.Error(), LastTransitionTime: metav1.NewTime(now)})
	}
}

func statusChanged(old, now *appsv1.ReplicaSetStatus) bool {
	return !apiequality.Semantic.DeepEqual(old, now)
}
