package deployment

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the conditions.
const (
	reasonPaused      = "DeploymentPaused"
	reasonResumed     = "DeploymentResumed"
	reasonCreated     = "NewReplicaSetCreated"
	reasonFound       = "FoundNewReplicaSet"
	reasonUpdated     = "ReplicaSetUpdated"
	reasonAvailable   = "NewReplicaSetAvailable"
	reasonTimedOut    = "ProgressDeadlineExceeded"
	reasonCreateError = "ReplicaSetCreateError"
	reasonMinimum     = "MinimumReplicasAvailable"
	reasonNoMinimum   = "MinimumReplicasUnavailable"
)

func condition(s *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

func removeCondition(s *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) {
	s.Conditions = slices.DeleteFunc(s.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
}

func (r *rollout) setCondition(s *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(r.now)
	putCondition(s, appsv1.DeploymentCondition{Type: kind, Status: status, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now})
}

// putCondition takes a condition in unless one of the same status and reason is there, whose times then remain.
func putCondition(s *appsv1.DeploymentStatus, c appsv1.DeploymentCondition) {
	if old := condition(s, c.Type); old != nil {
		if old.Status == c.Status && old.Reason == c.Reason {
			return
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	removeCondition(s, c.Type)
	s.Conditions = append(s.Conditions, c)
}

// status counts the sets' replicas.
func (r *rollout) status() appsv1.DeploymentStatus {
	s := appsv1.DeploymentStatus{
		ObservedGeneration: r.d.Generation,
		CollisionCount:     r.d.Status.CollisionCount,
		Conditions:         slices.Clone(r.d.Status.Conditions),
	}
	for _, set := range r.all() {
		s.Replicas += set.Status.Replicas
		s.ReadyReplicas += set.Status.ReadyReplicas
		s.AvailableReplicas += set.Status.AvailableReplicas
	}
	if r.new != nil {
		s.UpdatedReplicas = r.new.Status.Replicas
	}
	s.UnavailableReplicas = max(specReplicas(r.all()...)-s.AvailableReplicas, 0)
	s.TerminatingReplicas = r.terminating()
	if s.AvailableReplicas >= *r.d.Spec.Replicas-r.maxUnavailable() {
		r.setCondition(&s, appsv1.DeploymentAvailable, corev1.ConditionTrue, reasonMinimum, "Deployment has minimum availability.")
	} else {
		r.setCondition(&s, appsv1.DeploymentAvailable, corev1.ConditionFalse, reasonNoMinimum, "Deployment does not have minimum availability.")
	}
	return s
}

// terminating sums the sets' terminating pods up; nil as long as one of them has not told its own.
func (r *rollout) terminating() *int32 {
	sum := int32(0)
	for _, set := range r.all() {
		switch {
		case set.Status.TerminatingReplicas != nil:
			sum += *set.Status.TerminatingReplicas
		case set.Status.ObservedGeneration > 0:
			return nil
		}
	}
	return &sum
}

// rolloutStatus is status with the rollout's progress in it. It returns when the progress deadline must be looked at again.
func (r *rollout) rolloutStatus() (again time.Duration) {
	s := r.status()
	deadline := r.d.Spec.ProgressDeadlineSeconds != nil
	if !deadline {
		removeCondition(&s, appsv1.DeploymentProgressing)
	}
	current := condition(&r.d.Status, appsv1.DeploymentProgressing)
	done := s.Replicas == s.UpdatedReplicas && current != nil && current.Reason == reasonAvailable
	if deadline && !done {
		r.noteProgress(&s, current)
	}
	if failures := r.failures(); failures != nil {
		putCondition(&s, *failures)
	} else {
		removeCondition(&s, appsv1.DeploymentReplicaFailure)
	}
	if deadline && apiequality.Semantic.DeepEqual(r.deployment.Status, s) {
		again = r.untilDeadline(&s)
	}
	r.d.Status = s
	return again
}

func (r *rollout) noteProgress(s *appsv1.DeploymentStatus, current *appsv1.DeploymentCondition) {
	subject := fmt.Sprintf("Deployment %q", r.d.Name)
	if r.new != nil {
		subject = fmt.Sprintf("ReplicaSet %q", r.new.Name)
	}
	switch {
	case r.complete(s):
		r.setCondition(s, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonAvailable, subject+" has successfully progressed.")
	case r.progressed(s):
		now := metav1.NewTime(r.now)
		c := appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: reasonUpdated,
			Message: subject + " is progressing.", LastUpdateTime: now, LastTransitionTime: now}
		if current != nil && current.Status == corev1.ConditionTrue {
			c.LastTransitionTime = current.LastTransitionTime
		}
		removeCondition(s, appsv1.DeploymentProgressing) // each step of progress renews the time that the deadline counts from
		putCondition(s, c)
	case r.timedOut(s):
		r.setCondition(s, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, subject+" has timed out progressing.")
	}
}

// complete tells whether all replicas are new and available, and nothing else runs.
func (r *rollout) complete(s *appsv1.DeploymentStatus) bool {
	want := *r.d.Spec.Replicas
	return s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want && s.ObservedGeneration >= r.d.Generation
}

// progressed tells whether the rollout has come further since the status that is stored.
func (r *rollout) progressed(s *appsv1.DeploymentStatus) bool {
	was := &r.d.Status
	return s.UpdatedReplicas > was.UpdatedReplicas ||
		s.Replicas-s.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		s.ReadyReplicas > was.ReadyReplicas ||
		s.AvailableReplicas > was.AvailableReplicas
}

func (r *rollout) timedOut(s *appsv1.DeploymentStatus) bool {
	c := condition(s, appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonAvailable {
		return false
	}
	return c.Reason == reasonTimedOut || c.LastUpdateTime.Add(r.deadline()).Before(r.now)
}

func (r *rollout) deadline() time.Duration {
	return time.Duration(*r.d.Spec.ProgressDeadlineSeconds) * time.Second
}

// untilDeadline is the time until the rollout counts as stuck, 0 if it is through or counts as stuck already.
func (r *rollout) untilDeadline(s *appsv1.DeploymentStatus) time.Duration {
	c := condition(s, appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonTimedOut || c.Reason == reasonAvailable || r.complete(s) {
		return 0
	}
	// One second more, since the condition's time is in whole seconds.
	return max(c.LastUpdateTime.Add(r.deadline()).Sub(r.now), 0) + time.Second
}

// failures returns the condition that pods can't be made, from the new set or else from any other.
func (r *rollout) failures() *appsv1.DeploymentCondition {
	sets := r.all()
	if r.new != nil {
		sets = append([]*appsv1.ReplicaSet{r.new}, r.old...)
	}
	for _, set := range sets {
		for _, c := range set.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				return &appsv1.DeploymentCondition{Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastTransitionTime: c.LastTransitionTime, LastUpdateTime: c.LastTransitionTime}
			}
		}
	}
	return nil
}
