package job

import (
	"cmp"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/controller/podcontrol"
)

const (
	// burst bounds how many pods one reconciliation creates or deletes.
	burst = 500
	// maxUncounted bounds the UIDs in a status.
	maxUncounted = 500
)

// state is what a decision is made from. Read-only.
type state struct {
	job  *batchv1.Job
	pods []*corev1.Pod // the Job's own
	// delay returns how long to wait until a pod is made after so many failures in a row, the last at a time.
	failuresInARow int
	lastFailure    time.Time
	now            time.Time
}

// plan is what to do: first the status is written, then the rest done.
type plan struct {
	status  batchv1.JobStatus
	untrack []*corev1.Pod // finalizers to take away
	delete  []*corev1.Pod
	create  []birth
	events  []event
	again   time.Duration
	// succeeded and failed are pods that are counted for the first time.
	succeeded, failed []*corev1.Pod
	actions           map[batchv1.PodFailurePolicyAction]int // of the pod failure policy, for pods that are seen to have failed
}

// birth is a pod to make.
type birth struct {
	index            int // -1 if the Job isn't indexed
	counted, ignored int // failures of the index before
}

// event is something to tell people.
type event struct{ kind, reason, message string }

type planner struct {
	state
	plan
	active      []*corev1.Pod
	terminating int
	uncounted   batchv1.UncountedTerminatedPods
	done, bad   indexes // indexes that have succeeded, and that have failed for good
	newFailure  bool
	failTarget  *batchv1.JobCondition // why the Job fails
	success     *batchv1.JobCondition // why it has succeeded
}

// makePlan decides the next step of a Job that hasn't ended.
func makePlan(s state) plan {
	p := &planner{state: s}
	p.status = *s.job.Status.DeepCopy()
	if p.status.UncountedTerminatedPods != nil {
		p.uncounted = *p.status.UncountedTerminatedPods
	}
	p.look()
	p.count()
	p.judge()
	switch {
	case s.job.DeletionTimestamp != nil:
		p.untrackAll()
	case p.failTarget != nil || p.success != nil:
		p.delete = p.active
	case suspended(s.job):
		p.suspend()
	default:
		p.resume()
		p.manage()
	}
	p.conclude()
	return p.plan
}

func suspended(job *batchv1.Job) bool { return job.Spec.Suspend != nil && *job.Spec.Suspend }

// replacesFailedOnly tells whether a pod counts as failed, and is replaced, only once it has ended.
func replacesFailedOnly(job *batchv1.Job) bool {
	return job.Spec.PodReplacementPolicy != nil && *job.Spec.PodReplacementPolicy == batchv1.Failed || job.Spec.PodFailurePolicy != nil
}

func failed(job *batchv1.Job, pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodFailed {
		return true
	}
	return !replacesFailedOnly(job) && pod.DeletionTimestamp != nil && pod.Status.Phase != corev1.PodSucceeded
}

func tracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

// look sorts the pods.
func (p *planner) look() {
	ready := int32(0)
	for _, pod := range p.pods {
		switch {
		case podcontrol.Active(pod):
			p.active = append(p.active, pod)
			if podcontrol.Ready(pod) {
				ready++
			}
		case podcontrol.Terminating(pod):
			p.terminating++
		}
	}
	terminating := int32(p.terminating)
	p.status.Active, p.status.Ready, p.status.Terminating = int32(len(p.active)), &ready, &terminating
	if indexed(p.job) {
		n := int(*p.job.Spec.Completions)
		p.done = parseIndexes(p.status.CompletedIndexes, n)
		p.bad = indexes{}
		if p.status.FailedIndexes != nil {
			p.bad = parseIndexes(*p.status.FailedIndexes, n)
		}
	}
}

// count takes pods that ended into the status, in the steps that the package's comment tells.
func (p *planner) count() {
	byUID := map[types.UID]*corev1.Pod{}
	for _, pod := range p.pods {
		byUID[pod.UID] = pod
	}
	settle := func(list []types.UID, into *int32) []types.UID {
		return slices.DeleteFunc(slices.Clone(list), func(uid types.UID) bool {
			pod := byUID[uid]
			if pod != nil && tracked(pod) {
				p.untrack = append(p.untrack, pod)
				return false
			}
			*into++
			return true
		})
	}
	succeeded, failedCount := p.status.Succeeded, p.status.Failed
	p.uncounted.Succeeded = settle(p.uncounted.Succeeded, &succeeded)
	p.uncounted.Failed = settle(p.uncounted.Failed, &failedCount)
	if !indexed(p.job) {
		p.status.Succeeded = succeeded
	}
	p.status.Failed = failedCount
	for _, pod := range p.pods {
		if !tracked(pod) || slices.Contains(p.uncounted.Succeeded, pod.UID) || slices.Contains(p.uncounted.Failed, pod.UID) {
			continue
		}
		if len(p.uncounted.Succeeded)+len(p.uncounted.Failed) >= maxUncounted {
			break
		}
		p.countOne(pod)
	}
	if indexed(p.job) {
		p.status.Succeeded = int32(len(p.done))
		p.status.CompletedIndexes = p.done.String()
		if p.job.Spec.BackoffLimitPerIndex != nil {
			text := p.bad.String()
			p.status.FailedIndexes = &text
		}
	}
	p.status.UncountedTerminatedPods = &p.uncounted
}

// countOne takes a pod in whose end is seen for the first time.
func (p *planner) countOne(pod *corev1.Pod) {
	index := indexOf(pod)
	valid := !indexed(p.job) || index >= 0 && index < int(*p.job.Spec.Completions)
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		p.succeeded = append(p.succeeded, pod)
		if indexed(p.job) {
			// Indexes are counted once, whichever of their pods succeeded.
			if valid {
				p.done[index] = true
			}
			p.untrack = append(p.untrack, pod)
			return
		}
		p.uncounted.Succeeded = append(p.uncounted.Succeeded, pod.UID)
	case failed(p.job, pod) || p.ending() && pod.DeletionTimestamp != nil && podcontrol.Terminal(pod):
		action, why := matchPolicy(p.job, pod)
		if action != "" {
			if p.actions == nil {
				p.actions = map[batchv1.PodFailurePolicyAction]int{}
			}
			p.actions[action]++
		}
		if action == batchv1.PodFailurePolicyActionFailJob && p.failTarget == nil && p.success == nil {
			p.failTarget = p.condition(batchv1.JobFailureTarget, batchv1.JobReasonPodFailurePolicy, why)
		}
		p.failed = append(p.failed, pod)
		if !valid || action == batchv1.PodFailurePolicyActionIgnore {
			p.untrack = append(p.untrack, pod)
			return
		}
		p.newFailure = true
		if limit := p.job.Spec.BackoffLimitPerIndex; limit != nil {
			if n, _ := failures(pod); n >= int(*limit) || action == batchv1.PodFailurePolicyActionFailIndex {
				p.bad[index] = true
			}
		}
		p.uncounted.Failed = append(p.uncounted.Failed, pod.UID)
	}
}

// ending tells whether it's settled how the Job ends.
func (p *planner) ending() bool {
	return has(&p.status, batchv1.JobFailureTarget) || has(&p.status, batchv1.JobSuccessCriteriaMet)
}

// untrackAll lets the pods of a Job that is being deleted go.
func (p *planner) untrackAll() {
	p.untrack = nil
	for _, pod := range p.pods {
		if tracked(pod) {
			p.untrack = append(p.untrack, pod)
		}
	}
}

// seen counts what's settled and what's about to be.
func (p *planner) seen() (succeeded, failed int) {
	return int(p.status.Succeeded) + len(p.uncounted.Succeeded), int(p.status.Failed) + len(p.uncounted.Failed)
}

// manage makes as many pods as should run, and removes those that shouldn't.
func (p *planner) manage() {
	succeeded, _ := p.seen()
	want := int(*p.job.Spec.Parallelism)
	switch {
	case p.job.Spec.Completions != nil:
		want = max(min(want, int(*p.job.Spec.Completions)-succeeded), 0)
	case succeeded > 0:
		want = min(want, len(p.active)) // the others are about to end, too
	}
	if p.removeSurplus(want) {
		return
	}
	n := want - len(p.active)
	if replacesFailedOnly(p.job) {
		n -= p.terminating
	}
	if n <= 0 {
		return
	}
	births := p.births(min(n, burst))
	if len(births) == 0 {
		return
	}
	if p.job.Spec.BackoffLimitPerIndex == nil {
		if wait := backoff(p.failuresInARow, p.lastFailure).Sub(p.now); wait > 0 {
			p.waitFor(wait)
			return
		}
	}
	p.create = births
}

// removeSurplus deletes pods that are too many or have an index that is taken or out of range.
func (p *planner) removeSurplus(want int) bool {
	if indexed(p.job) {
		taken := indexes{}
		byAge := slices.Clone(p.active)
		slices.SortStableFunc(byAge, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		for _, pod := range byAge {
			i := indexOf(pod)
			if i < 0 || i >= int(*p.job.Spec.Completions) || taken[i] || p.done[i] || p.bad[i] {
				p.delete = append(p.delete, pod)
				continue
			}
			taken[i] = true
		}
	}
	surplus := len(p.active) - len(p.delete) - want
	if surplus > 0 {
		rest := slices.DeleteFunc(slices.Clone(p.active), func(pod *corev1.Pod) bool { return slices.Contains(p.delete, pod) })
		p.delete = append(p.delete, podcontrol.ToDelete(rest, nil, surplus, p.now)...)
	}
	p.delete = p.delete[:min(len(p.delete), burst)]
	return len(p.delete) > 0
}

// births chooses n pods to make: of an indexed Job the lowest indexes that nobody works on.
func (p *planner) births(n int) []birth {
	if !indexed(p.job) {
		out := make([]birth, n)
		for i := range out {
			out[i].index = -1
		}
		return out
	}
	busy := indexes{}
	last := map[int]*corev1.Pod{}
	for _, pod := range p.pods {
		i := indexOf(pod)
		if podcontrol.Active(pod) || podcontrol.Terminating(pod) && replacesFailedOnly(p.job) {
			busy[i] = true
		}
		if failed(p.job, pod) && (last[i] == nil || finishedAt(pod).After(finishedAt(last[i]))) {
			last[i] = pod
		}
	}
	var out []birth
	for i := 0; i < int(*p.job.Spec.Completions) && len(out) < n; i++ {
		if busy[i] || p.done[i] || p.bad[i] {
			continue
		}
		b := birth{index: i}
		if pod := last[i]; pod != nil && p.job.Spec.BackoffLimitPerIndex != nil {
			b.counted, b.ignored = failures(pod)
			if action, _ := matchPolicy(p.job, pod); action == batchv1.PodFailurePolicyActionIgnore {
				b.ignored++
			} else {
				b.counted++
			}
			if wait := backoff(b.counted+b.ignored, finishedAt(pod)).Sub(p.now); wait > 0 {
				p.waitFor(wait)
				continue
			}
		}
		out = append(out, b)
	}
	return out
}

func (p *planner) waitFor(d time.Duration) {
	if p.again == 0 || d < p.again {
		p.again = d
	}
}

// Bounds of the time between a pod's failure and its successor.
const (
	minBackoff = 10 * time.Second
	maxBackoff = 10 * time.Minute
)

// backoff returns when a pod may be made after so many failures in a row.
func backoff(failures int, last time.Time) time.Time {
	if failures <= 0 {
		return time.Time{}
	}
	d := maxBackoff
	if failures < 8 { // ten seconds doubled seven times are beyond the maximum
		d = min(minBackoff<<(failures-1), maxBackoff)
	}
	return last.Add(d)
}

// finishedAt is when a pod ended, as far as that can be told.
func finishedAt(pod *corev1.Pod) time.Time {
	var at time.Time
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for _, c := range list {
			if t := c.State.Terminated; t != nil && t.FinishedAt.After(at) {
				at = t.FinishedAt.Time
			}
		}
	}
	if !at.IsZero() {
		return at
	}
	if c := podcontrol.Condition(pod, corev1.PodReady); c != nil && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	if pod.DeletionTimestamp != nil {
		return pod.DeletionTimestamp.Time
	}
	return pod.CreationTimestamp.Time
}

func byFinish(a, b *corev1.Pod) int {
	return cmp.Or(finishedAt(a).Compare(finishedAt(b)), cmp.Compare(a.Name, b.Name))
}

func stamp(t time.Time) *metav1.Time {
	at := metav1.NewTime(t)
	return &at
}
