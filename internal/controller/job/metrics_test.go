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
)

func TestTheEndOfAJobAndOfItsPodsIsCountedOnceWritten(t *testing.T) {
	m := newMetrics()
	r := prometheus.NewRegistry()
	r.MustRegister(m.syncs, m.jobs, m.pods)
	job := newJob(1, 2)
	job.Status.Succeeded = 1
	m.synced(job, &plan{create: []birth{{index: -1}}}, time.Second, nil)
	m.stored(job, &batchv1.JobStatus{Succeeded: 2, Failed: 3, Conditions: []batchv1.JobCondition{
		{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue, Reason: "CompletionsReached"},
		{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, Reason: "CompletionsReached"},
	}})
	want := map[string]float64{
		"job_controller_job_syncs_total pods_created NonIndexed success":             1,
		"job_controller_jobs_finished_total NonIndexed CompletionsReached succeeded": 1,
		"job_controller_job_pods_finished_total NonIndexed succeeded":                1,
		"job_controller_job_pods_finished_total NonIndexed failed":                   3,
	}
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
