package job

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func ptr[T any](v T) *T { return &v }

func newJob(parallelism, completions int32, change ...func(*batchv1.JobSpec)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "j", UID: "j"}, Spec: batchv1.JobSpec{
		Parallelism: &parallelism, Completions: &completions, BackoffLimit: ptr(int32(6)), CompletionMode: ptr(batchv1.NonIndexedCompletion),
		PodReplacementPolicy: ptr(batchv1.TerminatingOrFailed),
		Template:             corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c"}}}},
	}}
	for _, c := range change {
		c(&j.Spec)
	}
	return j
}

// world plays the API; pods end as the test says.
type world struct {
	t *testing.T
	state
	made     int
	record   record
	finished []string // events
}

func newWorld(t *testing.T, job *batchv1.Job) *world {
	return &world{t: t, state: state{job: job, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}}
}

// step applies one plan and reports whether it did anything.
func (w *world) step() bool {
	if ended(w.job) {
		return false
	}
	w.failuresInARow, w.lastFailure = w.record.failures, w.record.last
	p := makePlan(w.state)
	moved := !equality.Semantic.DeepEqual(w.job.Status, p.status) || len(p.create)+len(p.delete)+len(p.untrack) > 0
	job := w.job.DeepCopy()
	job.Status = p.status
	w.job = job
	r := reconciler{past: map[types.UID]*record{"j": &w.record}}
	r.remember("j", &p)
	for _, pod := range p.untrack {
		w.change(pod, func(p *corev1.Pod) { p.Finalizers = nil })
	}
	for _, pod := range p.delete {
		w.change(pod, func(p *corev1.Pod) { p.DeletionTimestamp = ptr(metav1.NewTime(w.now)) })
	}
	w.pods = slices.DeleteFunc(w.pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil && len(p.Finalizers) == 0 })
	for _, b := range p.create {
		w.made++
		pod := newPod(w.job, b)
		pod.Name, pod.UID, pod.CreationTimestamp = fmt.Sprintf("%s%d", pod.GenerateName, w.made), types.UID(fmt.Sprint("u", w.made)), metav1.NewTime(w.now)
		pod.Status.Phase = corev1.PodRunning
		w.pods = append(w.pods, pod)
	}
	for _, e := range p.events {
		w.finished = append(w.finished, e.reason)
	}
	return moved
}

func (w *world) change(pod *corev1.Pod, fn func(*corev1.Pod)) {
	for i, p := range w.pods {
		if p.UID == pod.UID {
			w.pods[i] = p.DeepCopy()
			fn(w.pods[i])
		}
	}
}

// end lets a running pod end.
func (w *world) end(pod *corev1.Pod, phase corev1.PodPhase, code int32) {
	w.change(pod, func(p *corev1.Pod) {
		p.Status.Phase = phase
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(w.now)}}}}
	})
}

// run plays until nothing happens any more; each running pod ends as outcome says.
func (w *world) run(outcome func(*corev1.Pod) (corev1.PodPhase, int32)) {
	w.t.Helper()
	for range 500 {
		for w.step() {
		}
		if ended(w.job) {
			return
		}
		for _, pod := range w.pods {
			if pod.Status.Phase == corev1.PodRunning {
				phase, code := outcome(pod)
				w.end(pod, phase, code)
			}
		}
		w.now = w.now.Add(11 * time.Minute) // past any backoff
	}
	w.t.Fatalf("the Job does not end: %+v", w.job.Status)
}

func succeed(*corev1.Pod) (corev1.PodPhase, int32) { return corev1.PodSucceeded, 0 }
func fail(*corev1.Pod) (corev1.PodPhase, int32)    { return corev1.PodFailed, 1 }

func (w *world) want(kind batchv1.JobConditionType, reason string, succeeded, failed int32) {
	w.t.Helper()
	c := find(&w.job.Status, kind)
	if c == nil || c.Reason != reason || w.job.Status.Succeeded != succeeded || w.job.Status.Failed != failed {
		w.t.Errorf("got %+v, want %s for %s with %d succeeded and %d failed", w.job.Status, kind, reason, succeeded, failed)
	}
	if u := w.job.Status.UncountedTerminatedPods; u == nil || len(u.Succeeded)+len(u.Failed) > 0 || w.job.Status.Active != 0 {
		w.t.Errorf("it ended with %+v", w.job.Status)
	}
}

func TestAJobIsCompleteWhenEnoughPodsHaveSucceeded(t *testing.T) {
	w := newWorld(t, newJob(2, 5))
	w.run(succeed)
	w.want(batchv1.JobComplete, "CompletionsReached", 5, 0)
	if w.made != 5 || !slices.Equal(w.finished, []string{"Completed"}) || w.job.Status.CompletionTime == nil {
		t.Errorf("%d pods were made, events %v", w.made, w.finished)
	}
}

func TestAJobFailsBeyondItsLimit(t *testing.T) {
	w := newWorld(t, newJob(1, 1, func(s *batchv1.JobSpec) { s.BackoffLimit = ptr(int32(2)) }))
	w.run(fail)
	w.want(batchv1.JobFailed, "BackoffLimitExceeded", 0, 3)
}

func TestAWorkQueueEndsWithItsFirstSuccess(t *testing.T) {
	w := newWorld(t, newJob(3, 0, func(s *batchv1.JobSpec) { s.Completions = nil }))
	w.run(succeed)
	w.want(batchv1.JobComplete, "CompletionsReached", 3, 0)
}

func TestIndexesAreDoneOnceEach(t *testing.T) {
	w := newWorld(t, newJob(3, 5, func(s *batchv1.JobSpec) { s.CompletionMode = ptr(batchv1.IndexedCompletion) }))
	failedOnce := false
	w.run(func(p *corev1.Pod) (corev1.PodPhase, int32) {
		if indexOf(p) == 2 && !failedOnce {
			failedOnce = true
			return corev1.PodFailed, 1
		}
		return corev1.PodSucceeded, 0
	})
	w.want(batchv1.JobComplete, "CompletionsReached", 5, 1)
	if w.job.Status.CompletedIndexes != "0-4" || w.made != 6 {
		t.Errorf("completed %s with %d pods", w.job.Status.CompletedIndexes, w.made)
	}
}

func TestIndexesMayFailOnTheirOwn(t *testing.T) {
	w := newWorld(t, newJob(2, 4, func(s *batchv1.JobSpec) {
		s.CompletionMode, s.BackoffLimitPerIndex, s.BackoffLimit = ptr(batchv1.IndexedCompletion), ptr(int32(1)), ptr(int32(1<<31-1))
	}))
	w.run(func(p *corev1.Pod) (corev1.PodPhase, int32) {
		if indexOf(p) == 1 {
			return corev1.PodFailed, 1
		}
		return corev1.PodSucceeded, 0
	})
	w.want(batchv1.JobFailed, "FailedIndexes", 3, 2)
	if *w.job.Status.FailedIndexes != "1" || w.job.Status.CompletedIndexes != "0,2,3" {
		t.Errorf("failed %s, completed %s", *w.job.Status.FailedIndexes, w.job.Status.CompletedIndexes)
	}
}

func TestAPolicyDecidesAboutFailures(t *testing.T) {
	rule := func(action batchv1.PodFailurePolicyAction) func(*batchv1.JobSpec) {
		return func(s *batchv1.JobSpec) {
			s.BackoffLimit = ptr(int32(0))
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: action,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}}}}
		}
	}
	w := newWorld(t, newJob(2, 3, rule(batchv1.PodFailurePolicyActionFailJob)))
	w.run(func(*corev1.Pod) (corev1.PodPhase, int32) { return corev1.PodFailed, 42 })
	w.want(batchv1.JobFailed, "PodFailurePolicy", 0, 2)
	if m := find(&w.job.Status, batchv1.JobFailed).Message; m != "Container c for pod ns/j-1 failed with exit code 42 matching FailJob rule at index 0" {
		t.Errorf("the message is %q", m)
	}
	w = newWorld(t, newJob(1, 1, rule(batchv1.PodFailurePolicyActionIgnore)))
	tries := 0
	w.run(func(*corev1.Pod) (corev1.PodPhase, int32) {
		if tries++; tries < 4 {
			return corev1.PodFailed, 42
		}
		return corev1.PodSucceeded, 0
	})
	w.want(batchv1.JobComplete, "CompletionsReached", 1, 0)
}

func TestASuccessPolicyEndsAJobEarly(t *testing.T) {
	w := newWorld(t, newJob(5, 5, func(s *batchv1.JobSpec) {
		s.CompletionMode = ptr(batchv1.IndexedCompletion)
		s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr("0")}}}
	}))
	w.step()
	w.end(w.pods[0], corev1.PodSucceeded, 0)
	for range 10 {
		w.step()
	}
	c := find(&w.job.Status, batchv1.JobComplete)
	if c == nil || c.Reason != "SuccessPolicy" || c.Message != "Matched rules at index 0" || w.job.Status.CompletedIndexes != "0" {
		t.Errorf("got %+v", w.job.Status)
	}
}

func TestASuspendedJobHasNoPodsAndNoClock(t *testing.T) {
	w := newWorld(t, newJob(2, 2))
	w.step()
	w.job.Spec.Suspend = ptr(true)
	for range 5 {
		w.step()
	}
	if len(w.pods) != 0 || w.job.Status.StartTime != nil || !has(&w.job.Status, batchv1.JobSuspended) {
		t.Errorf("%d pods, status %+v", len(w.pods), w.job.Status)
	}
	w.job.Spec.Suspend = ptr(false)
	w.run(succeed)
	if c := find(&w.job.Status, batchv1.JobSuspended); c.Status != corev1.ConditionFalse || c.Reason != "JobResumed" || !ended(w.job) {
		t.Errorf("got %+v", w.job.Status)
	}
}

func TestADeadlineEndsAJob(t *testing.T) {
	w := newWorld(t, newJob(1, 1, func(s *batchv1.JobSpec) { s.ActiveDeadlineSeconds = ptr(int64(60)) }))
	w.step()
	if p := makePlan(w.state); p.again != time.Minute {
		t.Errorf("looks again after %v", p.again)
	}
	w.now = w.now.Add(time.Minute)
	for range 10 {
		w.step()
	}
	w.want(batchv1.JobFailed, "DeadlineExceeded", 0, 1)
}

func TestFailuresAreSpacedOut(t *testing.T) {
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for n, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 5: 160 * time.Second, 7: 10 * time.Minute, 100: 10 * time.Minute} {
		if got := backoff(n, at).Sub(at); got != want {
			t.Errorf("after %d failures: %v, want %v", n, got, want)
		}
	}
}

func TestIndexSetsAreWrittenShort(t *testing.T) {
	for text, want := range map[string]string{"0,1,2,5": "0-2,5", "0,1": "0,1", "3": "3", "": "", "1,3-5,7": "1,3-5,7"} {
		if got := parseIndexes(text, 100).String(); got != want {
			t.Errorf("%q is written %q, want %q", text, got, want)
		}
	}
}

// TestEveryEndIsCountedOnce lets pods end at random between any two steps, with steps lost and repeated as by crashes.
func TestEveryEndIsCountedOnce(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t, newJob(1+rnd.Int32N(5), 1+rnd.Int32N(20), func(s *batchv1.JobSpec) { s.BackoffLimit = ptr(int32(1000)) }))
		succeeded, failed := int32(0), int32(0)
		for range 3000 {
			if w.step(); ended(w.job) {
				break
			}
			for _, pod := range w.pods {
				if pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil || rnd.IntN(3) > 0 {
					continue
				}
				if rnd.IntN(3) == 0 {
					w.end(pod, corev1.PodFailed, 1)
					failed++
				} else {
					w.end(pod, corev1.PodSucceeded, 0)
					succeeded++
				}
			}
			w.now = w.now.Add(time.Minute)
		}
		if !has(&w.job.Status, batchv1.JobComplete) || w.job.Status.Succeeded != succeeded || w.job.Status.Failed < failed {
			t.Fatalf("seed %d: %d succeeded and %d failed, the status says %+v", seed, succeeded, failed, w.job.Status)
		}
	}
}
