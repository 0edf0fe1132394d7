package job

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// metrics are upstream's, by name and labels.
type metrics struct {
	syncs    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	jobs     *prometheus.CounterVec
	pods     *prometheus.CounterVec
}

func newMetrics() metrics {
	const subsystem = "job_controller"
	round := []string{"completion_mode", "result", "action"}
	return metrics{
		syncs: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "job_syncs_total", Help: "The number of job syncs"}, round),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: "job_sync_duration_seconds", Help: "The time it took to sync a job",
			Buckets: prometheus.ExponentialBuckets(0.004, 2, 15)}, round),
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "jobs_finished_total", Help: "The number of finished jobs"},
			[]string{"completion_mode", "result", "reason"}),
		pods: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "job_pods_finished_total", Help: "The number of finished Pods that are fully tracked"},
			[]string{"completion_mode", "result"}),
	}
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

// stored counts what is new in a status that has been written: pods, and the Job's end.
func (m metrics) stored(job *batchv1.Job, status *batchv1.JobStatus) {
	mode := modeOf(job)
	m.pods.WithLabelValues(mode, resultSucceeded).Add(float64(max(0, status.Succeeded-job.Status.Succeeded)))
	m.pods.WithLabelValues(mode, resultFailed).Add(float64(max(0, status.Failed-job.Status.Failed)))
	for _, c := range status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			m.jobs.WithLabelValues(mode, resultSucceeded, c.Reason).Inc()
		case batchv1.JobFailed:
			m.jobs.WithLabelValues(mode, resultFailed, c.Reason).Inc()
		}
	}
}
