package ttlafterfinished

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhenAJobIsDeleted(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ttl := int32(60)
	ended := []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-10 * time.Second))}}
	for name, test := range map[string]struct {
		job  batchv1.Job
		left time.Duration
		due  bool
	}{
		"one that runs isn't":                  {job: batchv1.Job{Spec: batchv1.JobSpec{TTLSecondsAfterFinished: &ttl}}},
		"one that ended is when its time came": {job: batchv1.Job{Spec: batchv1.JobSpec{TTLSecondsAfterFinished: &ttl}, Status: batchv1.JobStatus{Conditions: ended}}, left: 50 * time.Second, due: true},
		"one without a time isn't":             {job: batchv1.Job{Status: batchv1.JobStatus{Conditions: ended}}},
	} {
		t.Run(name, func(t *testing.T) {
			if left, due := remaining(&test.job, now); left != test.left || due != test.due {
				t.Errorf("got %v, %v", left, due)
			}
		})
	}
}
