package job

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// metrics are upstream's, by name and labels.
type metrics struct {
	syncs    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	jobs     *prometheus.CounterVec
	pods     *prometheus.CounterVec
	indexes  *prometheus.CounterVec
	created  *prometheus.CounterVec
	external *prometheus.CounterVec
	policy   *prometheus.CounterVec
	awaiting *prometheus.CounterVec
}

func newMetrics() metrics {
	const subsystem = "job_controller"
	round := []string{"completion_mode", "result", "action"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: name, Help: help}, labels)
	}
	return metrics{
		syncs: counter("job_syncs_total", "The number of job syncs", round...),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: "job_sync_duration_seconds", Help: "The time it took to sync a job",
			Buckets: prometheus.ExponentialBuckets(0.004, 2, 15)}, round),
		jobs: counter("jobs_finished_total", "The number of finished jobs", "completion_mode", "result", "reason"),
		pods: counter("job_pods_finished_total", "The number of finished Pods that are fully tracked", "completion_mode", "result"),
		indexes: counter("job_finished_indexes_total", "The number of finished indexes. Possible values for the\n"+
			"\t\t\tstatus label are: \"succeeded\", \"failed\". Possible values for the\n\t\t\tbackoffLimit label are: \"perIndex\" and \"global\"", "status", "backoffLimit"),
		created: counter("job_pods_creation_total", "The number of Pods created by the Job controller labelled with a reason for the Pod creation.\n"+
			"This metric also distinguishes between Pods created using different PodReplacementPolicy settings.\nPossible values of the \"reason\" label are:\n"+
			"\"new\", \"recreate_terminating_or_failed\", \"recreate_failed\".\nPossible values of the \"status\" label are:\n\"succeeded\", \"failed\".", "reason", "status"),
		external: counter("jobs_by_external_controller_total", "The number of Jobs managed by an external controller", "controller_name"),
		policy: counter("pod_failures_handled_by_failure_policy_total", "The number of failed Pods handled by failure policy with\n"+
			"\t\t\trespect to the failure policy action applied based on the matched\n\t\t\trule. Possible values of the action label correspond to the\n"+
			"\t\t\tpossible values for the failure policy rule action, which are:\n\t\t\t\"FailJob\", \"Ignore\" and \"Count\".", "action"),
		awaiting: counter("terminated_pods_tracking_finalizer_total", "The number of terminated pods (phase=Failed|Succeeded)\n"+
			"that have the finalizer batch.kubernetes.io/job-tracking\nThe event label can be \"add\" or \"delete\".", "event"),
	}
}

func (m metrics) register(env *controller.Env) error {
	return env.Register(m.syncs, m.duration, m.jobs, m.pods, m.indexes, m.created, m.external, m.policy, m.awaiting)
}

const resultSucceeded, resultFailed = "succeeded", "failed"

func modeOf(job *batchv1.Job) string {
	if indexed(job) {
		return string(batchv1.IndexedCompletion)
	}
	return string(batchv1.NonIndexedCompletion)
}

// synced counts a round, by what it did.
func (m metrics) synced(job *batchv1.Job, p *plan, took time.Duration, err error) {
	result, action := "success", "tracking"
	switch {
	case len(p.create) > 0:
		action = "pods_created"
	case len(p.delete) > 0:
		action = "pods_deleted"
	case job.DeletionTimestamp != nil:
		action = "reconciling"
	}
	if err != nil {
		result = "error"
	}
	m.syncs.WithLabelValues(modeOf(job), result, action).Inc()
	m.duration.WithLabelValues(modeOf(job), result, action).Observe(took.Seconds())
}

// stored counts what is new in a status that has been written: pods, indexes, and the Job's end.
func (m metrics) stored(job *batchv1.Job, status *batchv1.JobStatus) {
	mode := modeOf(job)
	m.pods.WithLabelValues(mode, resultSucceeded).Add(float64(max(0, status.Succeeded-job.Status.Succeeded)))
	m.pods.WithLabelValues(mode, resultFailed).Add(float64(max(0, status.Failed-job.Status.Failed)))
	if indexed(job) {
		m.storedIndexes(job, status)
	}
	for kind, result := range map[batchv1.JobConditionType]string{batchv1.JobComplete: resultSucceeded, batchv1.JobFailed: resultFailed} {
		if has(status, kind) && !has(&job.Status, kind) {
			m.jobs.WithLabelValues(mode, result, find(status, kind).Reason).Inc()
		}
	}
}

func (m metrics) storedIndexes(job *batchv1.Job, status *batchv1.JobStatus) {
	limit := "global"
	if job.Spec.BackoffLimitPerIndex != nil {
		limit = "perIndex"
	}
	count := func(result string, now, was *string) {
		if now, was := value(now), value(was); now != was {
			n := int(*job.Spec.Completions)
			m.indexes.WithLabelValues(result, limit).Add(float64(max(0, len(parseIndexes(now, n))-len(parseIndexes(was, n)))))
		}
	}
	count(resultSucceeded, &status.CompletedIndexes, &job.Status.CompletedIndexes)
	count(resultFailed, status.FailedIndexes, job.Status.FailedIndexes)
}

// decided counts what the pod failure policy said of pods that ended.
func (m metrics) decided(p *plan) {
	for action, n := range p.actions {
		m.policy.WithLabelValues(string(action)).Add(float64(n))
	}
}

// made counts pods that were made, or could not be, by why they were to be.
func (m metrics) made(job *batchv1.Job, status *batchv1.JobStatus, succeeded, failed int) {
	failures := int(status.Failed)
	if status.UncountedTerminatedPods != nil {
		failures += len(status.UncountedTerminatedPods.Failed)
	}
	reason := "new"
	switch {
	case failures > 0 && value(job.Spec.PodReplacementPolicy) == batchv1.Failed:
		reason = "recreate_failed"
	case failures > 0 || value(status.Terminating) > 0:
		reason = "recreate_terminating_or_failed"
	}
	for status, n := range map[string]int{resultSucceeded: succeeded, resultFailed: failed} {
		if n > 0 {
			m.created.WithLabelValues(reason, status).Add(float64(n))
		}
	}
}

// sawJob counts Jobs that another controller manages.
func (m metrics) sawJob(c client.Change) {
	if c.Old != nil || c.New == nil {
		return
	}
	if job := c.New.Object().(*batchv1.Job); !ours(job) {
		m.external.WithLabelValues(*job.Spec.ManagedBy).Inc()
	}
}

// sawPod counts pods that ended and wait to be counted: as they begin to, and as they are through.
func (m metrics) sawPod(c client.Change) {
	was, is := awaits(c.Old), awaits(c.New)
	switch {
	case is && !was:
		m.awaiting.WithLabelValues("add").Inc()
	case was && !is:
		m.awaiting.WithLabelValues("delete").Inc()
	}
}

// awaits tells whether a pod ended and has the finalizer. Only what has ended is looked at closely: most changes are of pods that haven't.
func awaits(it client.Item) bool {
	if it == nil {
		return false
	}
	switch corev1.PodPhase(it.Field("status.phase")) {
	case corev1.PodFailed, corev1.PodSucceeded:
		return tracked(it.Object().(*corev1.Pod))
	}
	return false
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
