package disruption

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func pods(ready, unready int) []*corev1.Pod {
	var out []*corev1.Pod
	for i := range ready + unready {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)}}
		if i < ready {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		out = append(out, p)
	}
	return out
}

func TestHowManyMayBeEvicted(t *testing.T) {
	for name, test := range map[string]struct {
		min, max       string
		ready, unready int
		replicas       int32
		allowed        int32
		healthy        int32
	}{
		"all above the minimum":                           {min: "2", ready: 3, replicas: 3, allowed: 1, healthy: 2},
		"none below the minimum":                          {min: "2", ready: 1, unready: 2, replicas: 3, healthy: 2},
		"a share of what there should be, rounded up":     {min: "50%", ready: 3, replicas: 3, allowed: 1, healthy: 2},
		"at most so many unavailable":                     {max: "1", ready: 3, replicas: 3, allowed: 1, healthy: 2},
		"at most so many unavailable, and one is already": {max: "1", ready: 2, unready: 1, replicas: 3, healthy: 2},
		"what there should be counts, not what is there":  {max: "1", ready: 3, replicas: 5, healthy: 4},
		"a share unavailable, rounded up":                 {max: "30%", ready: 7, replicas: 7, allowed: 3, healthy: 4},
		"no pods":                                         {max: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
			if test.min != "" {
				v := intstr.Parse(test.min)
				b.Spec.MinAvailable = &v
			}
			if test.max != "" {
				v := intstr.Parse(test.max)
				b.Spec.MaxUnavailable = &v
			}
			s := state{budget: b, pods: pods(test.ready, test.unready), now: now, scale: func(*corev1.Pod) (types.UID, int32, bool, error) { return "o", test.replicas, true, nil }}
			count, healthy, _, err := s.expected()
			if err != nil {
				t.Fatal(err)
			}
			got := s.status(count, healthy, nil)
			if got.DisruptionsAllowed != test.allowed || got.DesiredHealthy != test.healthy || got.ObservedGeneration != 2 {
				t.Errorf("got %+v", got)
			}
			want := policyv1.InsufficientPodsReason
			if test.allowed > 0 {
				want = policyv1.SufficientPodsReason
			}
			if got.Conditions[0].Reason != want {
				t.Errorf("got %+v", got.Conditions)
			}
		})
	}
}

func TestAPodWhoseEvictionWasAllowedCountsAsGoneForAWhile(t *testing.T) {
	b := &policyv1.PodDisruptionBudget{Status: policyv1.PodDisruptionBudgetStatus{DisruptedPods: map[string]metav1.Time{
		"p0": metav1.NewTime(now.Add(-time.Minute)), "p1": metav1.NewTime(now.Add(-time.Hour)), "gone": metav1.NewTime(now)}}}
	s := state{budget: b, pods: pods(3, 0), now: now}
	pending, overdue, again := s.disrupted()
	if len(pending) != 1 || len(overdue) != 1 || overdue[0].Name != "p1" || again != time.Minute {
		t.Errorf("got %v, %v, %v", pending, overdue, again)
	}
	if got := s.status(3, 1, pending); got.CurrentHealthy != 2 || got.DisruptionsAllowed != 1 {
		t.Errorf("got %+v", got)
	}
}
