package batch

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api/check"
)

// A statusCheck validates an update of a job's status. Most rules are held only against what changed:
// the controller must have time to mend a status that a change of the spec made wrong.
type statusCheck struct {
	check.Errors
	job, old  *batchv1.Job
	new, was  *batchv1.JobStatus
	path      *field.Path
	finishing bool // whether being finished changed
}

func validateJobStatusUpdate(j, old *batchv1.Job) check.Errors {
	c := &statusCheck{job: j, old: old, new: &j.Status, was: &old.Status, path: field.NewPath("status"), finishing: isFinished(j) != isFinished(old)}
	c.counts()
	c.terminated()
	c.completion()
	c.finished()
	c.indexes()
	if c.new.Ready != nil && *c.new.Ready > c.new.Active && (!ptr.Equal(c.new.Ready, c.was.Ready) || c.new.Active != c.was.Active) {
		c.Invalid(c.path.Child("ready"), *c.new.Ready, "cannot set more ready pods than active")
	}
	c.success()
	c.transitions()
	return c.Errors
}

func (c *statusCheck) conditions(text string) {
	c.Invalid(c.path.Child("conditions"), field.OmitValueType{}, text)
}

// turned tells whether a condition changed between true and not.
func (c *statusCheck) turned(condition batchv1.JobConditionType) bool {
	return is(c.job, condition) != is(c.old, condition)
}

func (c *statusCheck) counts() {
	c.NonNegative(c.path.Child("active"), int64(c.new.Active))
	c.NonNegative(c.path.Child("succeeded"), int64(c.new.Succeeded))
	c.NonNegative(c.path.Child("failed"), int64(c.new.Failed))
	c.NonNegative(c.path.Child("ready"), int64(ptr.Deref(c.new.Ready, 0)))
	c.NonNegative(c.path.Child("terminating"), int64(ptr.Deref(c.new.Terminating, 0)))
}

func (c *statusCheck) terminated() {
	if c.new.UncountedTerminatedPods == nil {
		return
	}
	path, seen := c.path.Child("uncountedTerminatedPods"), map[types.UID]bool{}
	each := func(uids []types.UID, path *field.Path) {
		for i, uid := range uids {
			switch {
			case uid == "":
				c.Invalid(path.Index(i), uid, "must not be empty")
			case seen[uid]:
				c.Duplicate(path.Index(i), uid)
			}
			seen[uid] = true
		}
	}
	each(c.new.UncountedTerminatedPods.Succeeded, path.Child("succeeded"))
	each(c.new.UncountedTerminatedPods.Failed, path.Child("failed"))
}

func sameTime(a, b *metav1.Time) bool { return ptr.Equal(a, b) }

// completion checks how a job says that it completed or failed.
func (c *statusCheck) completion() {
	complete, failed := is(c.job, batchv1.JobComplete), is(c.job, batchv1.JobFailed)
	completing, failing := c.turned(batchv1.JobComplete), c.turned(batchv1.JobFailed)
	timed := !sameTime(c.new.CompletionTime, c.was.CompletionTime)
	at := c.path.Child("completionTime")
	if complete && failed && (completing || failing) {
		c.conditions("cannot set Complete=True and Failed=true conditions")
	}
	if complete && is(c.job, batchv1.JobFailureTarget) && (completing || c.turned(batchv1.JobFailureTarget)) {
		c.conditions("cannot set Complete=True and FailureTarget=true conditions")
	}
	if c.new.CompletionTime != nil && !complete && (completing || timed) {
		c.Invalid(at, c.new.CompletionTime, "cannot set completionTime when there is no Complete=True condition")
	}
	if c.new.CompletionTime == nil && complete && (completing || timed) {
		c.Required(at, "completionTime is required for Complete jobs")
	}
	if start := c.new.StartTime; start != nil && c.new.CompletionTime.Before(start) && c.new.CompletionTime != nil && (timed || !sameTime(start, c.was.StartTime)) {
		c.Invalid(at, c.new.CompletionTime, "must be equal to or after `startTime`")
	}
	if failed && !is(c.job, batchv1.JobFailureTarget) && (failing || !ptr.Equal(c.new.FailedIndexes, c.was.FailedIndexes)) {
		c.conditions("cannot set Failed=True condition without the FailureTarget=true condition")
	}
	if complete && !is(c.job, batchv1.JobSuccessCriteriaMet) && (completing || c.turned(batchv1.JobSuccessCriteriaMet)) {
		c.conditions("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	}
}

// finished checks what a finished job may still have.
func (c *statusCheck) finished() {
	if !isFinished(c.job) {
		return
	}
	if c.new.Active > 0 && (c.finishing || c.new.Active != c.was.Active) {
		c.Invalid(c.path.Child("active"), c.new.Active, "active>0 is invalid for finished job")
	}
	never := ptr.Deref(c.job.Spec.Suspend, false) && ptr.Equal(c.job.Spec.Completions, ptr.To[int32](0))
	if c.new.StartTime == nil && (c.finishing || c.was.StartTime != nil) && !never {
		c.Required(c.path.Child("startTime"), "startTime is required for finished job")
	}
	if pods := c.new.UncountedTerminatedPods; pods != nil && len(pods.Failed)+len(pods.Succeeded) > 0 &&
		(c.finishing || !equality.Semantic.DeepEqual(pods, c.was.UncountedTerminatedPods)) {
		c.Invalid(c.path.Child("uncountedTerminatedPods"), pods, "must be empty for finished job")
	}
	if ptr.Deref(c.new.Terminating, 0) > 0 && (c.finishing || !ptr.Equal(c.new.Terminating, c.was.Terminating)) {
		c.Invalid(c.path.Child("terminating"), c.new.Terminating, "terminating>0 is invalid for finished job")
	}
}

func (c *statusCheck) indexes() {
	spec := &c.job.Spec
	completed, failed := c.path.Child("completedIndexes"), c.path.Child("failedIndexes")
	completedChanged, failedChanged := c.new.CompletedIndexes != c.was.CompletedIndexes, !ptr.Equal(c.new.FailedIndexes, c.was.FailedIndexes)
	completions := ptr.Deref(spec.Completions, 0)
	if completedChanged && spec.Completions != nil {
		if _, err := countIndexes(c.new.CompletedIndexes, completions); err != nil {
			c.Invalid(completed, c.new.CompletedIndexes, "error parsing completedIndexes: "+err.Error())
		}
	}
	if failedChanged && spec.Completions != nil && spec.BackoffLimitPerIndex != nil && c.new.FailedIndexes != nil {
		if _, err := countIndexes(*c.new.FailedIndexes, completions); err != nil {
			c.Invalid(failed, c.new.FailedIndexes, "error parsing failedIndexes: "+err.Error())
		}
	}
	if completedChanged && c.new.CompletedIndexes != "" && !isIndexed(spec) {
		c.Invalid(completed, c.new.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode")
	}
	if failedChanged && spec.BackoffLimitPerIndex == nil && c.new.FailedIndexes != nil {
		c.Invalid(failed, *c.new.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null")
	}
	if (completedChanged || failedChanged) && spec.Completions != nil && c.new.FailedIndexes != nil {
		if index, both := overlap(c.new.CompletedIndexes, *c.new.FailedIndexes, completions); both {
			c.Invalidf(failed, *c.new.FailedIndexes, "failedIndexes and completedIndexes overlap at index: %d", index)
		}
	}
}

// success checks the condition that the success criteria are met.
func (c *statusCheck) success() {
	met := is(c.job, batchv1.JobSuccessCriteriaMet)
	if met && is(c.job, batchv1.JobFailed) {
		c.conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions")
	}
	if met && is(c.job, batchv1.JobFailureTarget) {
		c.conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
	}
	if c.job.Spec.SuccessPolicy != nil && !met && is(c.job, batchv1.JobComplete) {
		c.conditions("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
	}
}

// transitions checks what must never go back.
func (c *statusCheck) transitions() {
	for _, condition := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		if is(c.old, condition) && !is(c.job, condition) {
			c.conditions("cannot disable the terminal " + string(condition) + "=True condition")
		}
	}
	if c.new.Failed < c.was.Failed {
		c.Invalid(c.path.Child("failed"), c.new.Failed, "cannot decrease the failed counter")
	}
	scalable := isIndexed(&c.job.Spec) && ptr.Equal(c.job.Spec.Completions, c.job.Spec.Parallelism)
	if c.new.Succeeded < c.was.Succeeded && !scalable {
		c.Invalid(c.path.Child("succeeded"), c.new.Succeeded, "cannot decrease the succeeded counter")
	}
	if c.new.CompletionTime != nil && c.was.CompletionTime != nil && !sameTime(c.new.CompletionTime, c.was.CompletionTime) {
		c.Invalid(c.path.Child("completionTime"), c.new.CompletionTime, "field is immutable")
	}
	resuming := is(c.old, batchv1.JobSuspended) && hasCondition(c.job, batchv1.JobSuspended, corev1.ConditionFalse)
	if c.was.StartTime != nil && !sameTime(c.new.StartTime, c.was.StartTime) && !resuming && !ptr.Deref(c.job.Spec.Suspend, false) {
		c.Invalid(c.path.Child("startTime"), c.new.StartTime, "field is immutable for unsuspended job once set")
	}
	met, wasMet := is(c.job, batchv1.JobSuccessCriteriaMet), is(c.old, batchv1.JobSuccessCriteriaMet)
	if wasMet && !met {
		c.conditions("cannot disable the SuccessCriteriaMet=True condition")
	}
	if is(c.old, batchv1.JobComplete) && !wasMet && met {
		c.conditions("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")
	}
}
