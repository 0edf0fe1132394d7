package job

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestTheEndOfAJobAndOfItsPodsIsCountedOnceWritten(t *testing.T) {
	m := newMetrics()
	r := prometheus.NewRegistry()
	r.MustRegister(m.syncs, m.jobs, m.pods, m.indexes, m.created, m.external, m.policy, m.awaiting)
	job := newJob(1, 2)
	job.Status.Succeeded = 1
	m.synced(job, &plan{create: []birth{{index: -1}}}, time.Second, nil)
	ended := &batchv1.JobStatus{Succeeded: 2, Failed: 3, Conditions: []batchv1.JobCondition{
		{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue, Reason: "CompletionsReached"},
		{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, Reason: "CompletionsReached"},
	}}
	m.stored(job, ended)
	job.Status = *ended
	m.stored(job, ended) // something else of it was written
	want := map[string]float64{
		"job_controller_job_syncs_total pods_created NonIndexed success":             1,
		"job_controller_jobs_finished_total NonIndexed CompletionsReached succeeded": 1,
		"job_controller_job_pods_finished_total NonIndexed succeeded":                1,
		"job_controller_job_pods_finished_total NonIndexed failed":                   3,
	}
	compareCounts(t, r, want)
}

func TestWhatBecomesOfPodsAndIndexesIsCounted(t *testing.T) {
	m := newMetrics()
	r := prometheus.NewRegistry()
	r.MustRegister(m.indexes, m.created, m.external, m.policy, m.awaiting)
	job := newJob(2, 9)
	mode, was, now := batchv1.IndexedCompletion, "1", "1,5-6"
	job.Spec.CompletionMode, job.Spec.BackoffLimitPerIndex = &mode, new(int32)
	job.Status = batchv1.JobStatus{CompletedIndexes: "0", FailedIndexes: &was}
	m.stored(job, &batchv1.JobStatus{CompletedIndexes: "0,2-4", FailedIndexes: &now})
	m.made(job, &batchv1.JobStatus{}, 2, 0)
	m.made(job, &batchv1.JobStatus{UncountedTerminatedPods: &batchv1.UncountedTerminatedPods{Failed: []types.UID{"a"}}}, 1, 1)
	policy := batchv1.Failed
	job.Spec.PodReplacementPolicy = &policy
	m.made(job, &batchv1.JobStatus{Failed: 1}, 1, 0)
	m.decided(&plan{actions: map[batchv1.PodFailurePolicyAction]int{batchv1.PodFailurePolicyActionIgnore: 2}})
	compareCounts(t, r, map[string]float64{
		"job_controller_job_finished_indexes_total perIndex succeeded":                    3,
		"job_controller_job_finished_indexes_total perIndex failed":                       2,
		"job_controller_job_pods_creation_total new succeeded":                            2,
		"job_controller_job_pods_creation_total recreate_terminating_or_failed succeeded": 1,
		"job_controller_job_pods_creation_total recreate_terminating_or_failed failed":    1,
		"job_controller_job_pods_creation_total recreate_failed succeeded":                1,
		"job_controller_pod_failures_handled_by_failure_policy_total Ignore":              2,
	})
}

func compareCounts(t *testing.T, r *prometheus.Registry, want map[string]float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			name := []string{f.GetName()}
			for _, l := range series.GetLabel() {
				name = append(name, l.GetValue())
			}
			got[strings.Join(name, " ")] = series.GetCounter().GetValue()
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v of %v", got, slices.Sorted(maps.Keys(want)))
	}
}
