package job

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func has(s *batchv1.JobStatus, kind batchv1.JobConditionType) bool {
	return find(s, kind) != nil && find(s, kind).Status == corev1.ConditionTrue
}

func find(s *batchv1.JobStatus, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

// ended tells whether a Job is through.
func ended(job *batchv1.Job) bool {
	return has(&job.Status, batchv1.JobComplete) || has(&job.Status, batchv1.JobFailed)
}

func (p *planner) condition(kind batchv1.JobConditionType, reason, message string) *batchv1.JobCondition {
	now := metav1.NewTime(p.now)
	return &batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastProbeTime: now, LastTransitionTime: now}
}

// put takes a condition in. It reports whether its status is another than before.
func put(s *batchv1.JobStatus, c batchv1.JobCondition) bool {
	old := find(s, c.Type)
	if old == nil {
		s.Conditions = append(s.Conditions, c)
		return true
	}
	if old.Status == c.Status {
		return false
	}
	*old = c
	return true
}

// judge decides whether the Job has failed or succeeded. What was decided before stands.
func (p *planner) judge() {
	s := &p.status
	if c := find(s, batchv1.JobFailureTarget); c != nil && c.Status == corev1.ConditionTrue {
		p.failTarget = c
		return
	}
	if c := find(s, batchv1.JobSuccessCriteriaMet); c != nil && c.Status == corev1.ConditionTrue {
		p.success, p.failTarget = c, nil
		return
	}
	if p.failTarget != nil { // by the pod failure policy
		return
	}
	if p.failTarget = p.exceeded(); p.failTarget != nil {
		return
	}
	if rule := matchSuccess(p.job, p.done); rule >= 0 {
		p.success = p.condition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", rule))
		return
	}
	if p.failTarget = p.failedIndexes(); p.failTarget != nil {
		return
	}
	succeeded, _ := p.seen()
	complete := succeeded > 0 && len(p.active) == 0
	if p.job.Spec.Completions != nil {
		complete = succeeded >= int(*p.job.Spec.Completions)
	}
	if complete && !suspended(p.job) {
		p.success = p.condition(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	}
}

// exceeded returns why the Job fails for its limits, nil if it doesn't.
func (p *planner) exceeded() *batchv1.JobCondition {
	_, failures := p.seen()
	limit := int(*p.job.Spec.BackoffLimit)
	if p.newFailure && failures > limit || p.pastLimitInPlace(limit) {
		return p.condition(batchv1.JobFailureTarget, batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	}
	if left, ok := p.untilDeadline(); ok {
		if left <= 0 {
			return p.condition(batchv1.JobFailureTarget, batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
		}
		p.waitFor(left)
	}
	return nil
}

// pastLimitInPlace counts the restarts of pods that the kubelet restarts itself.
func (p *planner) pastLimitInPlace(limit int) bool {
	if p.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	n := int32(0)
	for _, pod := range p.active {
		if pod.Status.Phase == corev1.PodRunning || pod.Status.Phase == corev1.PodPending {
			n += restarts(pod)
		}
	}
	if limit == 0 {
		return n > 0
	}
	return int(n) >= limit
}

func (p *planner) untilDeadline() (time.Duration, bool) {
	if p.job.Spec.ActiveDeadlineSeconds == nil || p.status.StartTime == nil || suspended(p.job) {
		return 0, false
	}
	return p.status.StartTime.Add(time.Duration(*p.job.Spec.ActiveDeadlineSeconds) * time.Second).Sub(p.now), true
}

// failedIndexes returns why the Job fails for indexes that failed, nil if it doesn't.
func (p *planner) failedIndexes() *batchv1.JobCondition {
	if p.job.Spec.BackoffLimitPerIndex == nil || len(p.bad) == 0 {
		return nil
	}
	if most := p.job.Spec.MaxFailedIndexes; most != nil && len(p.bad) > int(*most) {
		return p.condition(batchv1.JobFailureTarget, batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
	}
	if len(p.bad)+len(p.done) >= int(*p.job.Spec.Completions) {
		return p.condition(batchv1.JobFailureTarget, batchv1.JobReasonFailedIndexes, "Job has failed indexes")
	}
	return nil
}

// suspend stops the pods.
func (p *planner) suspend() {
	p.delete = p.active[:min(len(p.active), burst)]
	c := p.condition(batchv1.JobSuspended, "JobSuspended", "Job suspended")
	if put(&p.status, *c) {
		p.events = append(p.events, event{corev1.EventTypeNormal, "Suspended", "Job suspended"})
	}
	p.status.StartTime = nil
}

// resume starts the clock, after a suspension anew.
func (p *planner) resume() {
	if c := find(&p.status, batchv1.JobSuspended); c != nil && c.Status == corev1.ConditionTrue {
		next := p.condition(batchv1.JobSuspended, "JobResumed", "Job resumed")
		next.Status = corev1.ConditionFalse
		put(&p.status, *next)
		p.events = append(p.events, event{corev1.EventTypeNormal, "Resumed", "Job resumed"})
		p.status.StartTime = stamp(p.now)
	}
	if p.status.StartTime == nil {
		p.status.StartTime = stamp(p.now)
		if left, ok := p.untilDeadline(); ok {
			p.waitFor(left)
		}
	}
}

// conclude writes how the Job ends: at first what it comes to, and once all of its pods have ended and are counted, that it's over.
func (p *planner) conclude() {
	if p.job.DeletionTimestamp != nil || p.failTarget == nil && p.success == nil {
		return
	}
	target := p.failTarget
	if target == nil {
		target = p.success
	}
	put(&p.status, *target)
	if p.status.StartTime == nil && !suspended(p.job) {
		p.status.StartTime = stamp(p.now)
	}
	tracking := slices.ContainsFunc(p.pods, tracked)
	if len(p.active)+p.terminating > 0 || tracking || len(p.uncounted.Succeeded)+len(p.uncounted.Failed) > 0 {
		return
	}
	if p.failTarget != nil {
		put(&p.status, *p.condition(batchv1.JobFailed, target.Reason, target.Message))
		p.events = append(p.events, event{corev1.EventTypeWarning, target.Reason, target.Message})
		return
	}
	put(&p.status, *p.condition(batchv1.JobComplete, target.Reason, target.Message))
	p.status.CompletionTime = stamp(p.now)
	p.events = append(p.events, event{corev1.EventTypeNormal, "Completed", "Job completed"})
}
