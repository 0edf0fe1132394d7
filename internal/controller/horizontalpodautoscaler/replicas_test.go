package horizontalpodautoscaler

import (
	"fmt"
	"math"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// testPod is a pod that has run and been ready for an hour, and requests a core.
func testPod(name string, change func(*corev1.Pod)) *corev1.Pod {
	since := metav1.NewTime(now.Add(-time.Hour))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
		}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &since,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: since}}},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

func pending(p *corev1.Pod)  { p.Status.Phase = corev1.PodPending }
func failed(p *corev1.Pod)   { p.Status.Phase = corev1.PodFailed }
func deleting(p *corev1.Pod) { t := metav1.NewTime(now); p.DeletionTimestamp = &t }
func unready(p *corev1.Pod)  { p.Status.Conditions[0].Status = corev1.ConditionFalse }

// young started a minute ago and became ready ten seconds ago.
func young(p *corev1.Pod) {
	since := metav1.NewTime(now.Add(-time.Minute))
	p.Status.StartTime, p.Status.Conditions[0].LastTransitionTime = &since, metav1.NewTime(now.Add(-10*time.Second))
}

func neverReady(p *corev1.Pod) {
	unready(p)
	p.Status.Conditions[0].LastTransitionTime = *p.Status.StartTime
}

const unknown = -1

func TestByUtilization(t *testing.T) {
	for name, test := range map[string]struct {
		current  int32
		target   int32
		milli    []int64 // by pod; unknown has no value
		pods     []func(*corev1.Pod)
		want     int32
		percent  int32
		failedBy error
	}{
		"within_the_tolerance_nothing_changes":               {2, 50, []int64{540, 540}, nil, 2, 54, nil},
		"twice_the_target_doubles":                           {2, 50, []int64{1000, 1000}, nil, 4, 100, nil},
		"half_the_target_halves":                             {4, 50, []int64{250, 250, 250, 250}, nil, 2, 25, nil},
		"fractions_are_rounded_up":                           {3, 50, []int64{600, 600, 600}, nil, 4, 60, nil},
		"missing_pods_use_nothing_on_the_way_up":             {3, 50, []int64{1000, 1000, unknown}, nil, 4, 100, nil},
		"missing_pods_use_all_they_may_on_the_way_down":      {3, 50, []int64{100, 100, unknown}, nil, 3, 10, nil},
		"missing_pods_never_turn_the_direction":              {2, 50, []int64{100, unknown}, nil, 2, 10, nil},
		"pending_pods_use_nothing_on_the_way_up":             {2, 50, []int64{1500, unknown}, []func(*corev1.Pod){nil, pending}, 3, 150, nil},
		"pending_pods_do_not_hold_up_the_way_down":           {2, 50, []int64{100, unknown}, []func(*corev1.Pod){nil, pending}, 1, 10, nil},
		"pods_that_end_or_have_failed_do_not_count":          {2, 50, []int64{1000, 9000, 9000}, []func(*corev1.Pod){nil, deleting, failed}, 2, 100, nil},
		"what_a_pod_used_before_it_was_ready_does_not_count": {2, 50, []int64{500, 9000}, []func(*corev1.Pod){nil, young}, 2, 50, nil},
		"a_pod_that_was_never_ready_does_not_count":          {2, 50, []int64{500, 9000}, []func(*corev1.Pod){nil, neverReady}, 2, 50, nil},
		"a_pod_that_is_not_ready_any_more_counts": {2, 50, []int64{1000, 1000}, []func(*corev1.Pod){nil, func(p *corev1.Pod) {
			unready(p)
			p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-time.Minute))
		}}, 4, 100, nil},
		"nothing_known_is_an_error":                         {1, 50, []int64{unknown}, nil, 0, 0, errNoMetrics},
		"no_pods_are_an_error":                              {1, 50, nil, nil, 0, 0, errNoPods},
		"targets_above_100_take_missing_pods_at_the_target": {2, 300, []int64{1000, unknown}, nil, 2, 100, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := calculation{current: test.current, resource: corev1.ResourceCPU, tolerance: tolerance{0.1, 0.1}, now: now}
			values := map[string]value{}
			for i, milli := range test.milli {
				var change func(*corev1.Pod)
				if i < len(test.pods) {
					change = test.pods[i]
				}
				pod := testPod(fmt.Sprint("p", i), change)
				c.pods = append(c.pods, pod)
				if milli != unknown {
					values[pod.Name] = value{milli, now, time.Minute}
				}
			}
			got, percent, _, err := c.byUtilization(values, "", test.target)
			if got != test.want || percent != test.percent || err != test.failedBy { //nolint:errorlint // these very errors
				t.Errorf("got %d replicas at %d%%, %v; want %d at %d%%, %v", got, percent, err, test.want, test.percent, test.failedBy)
			}
		})
	}
}

func TestRequestsThatAreMissingAreNamed(t *testing.T) {
	c := calculation{resource: corev1.ResourceMemory, pods: []*corev1.Pod{testPod("web-1", nil)}}
	for container, want := range map[string]string{
		"":     "missing request for memory in container main of Pod web-1",
		"side": "container side not found in Pod web-1",
	} {
		if _, err := c.requests(container); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", container, err, want)
		}
	}
}

func TestPerPodReplicas(t *testing.T) {
	for _, test := range []struct {
		pods         int32
		used, target int64
		want         int32
		each         int64
	}{
		{3, 3000, 1000, 3, 1000}, {3, 3200, 1000, 3, 1067}, {3, 6000, 1000, 6, 2000}, {3, 100, 1000, 1, 34}, {3, math.MaxInt64, 1000, math.MaxInt32, math.MaxInt64},
	} {
		if got, each := perPodReplicas(test.pods, test.used, test.target, tolerance{0.1, 0.1}); got != test.want || each != test.each {
			t.Errorf("%+v: got %d, %d each", test, got, each)
		}
	}
}

func TestRatioReplicas(t *testing.T) {
	pods := []*corev1.Pod{testPod("a", nil), testPod("b", unready), testPod("c", nil)}
	for _, test := range []struct {
		current int32
		ratio   float64
		want    int32
	}{{3, 1.05, 3}, {3, 2, 4}, {3, 0.4, 1}, {0, 2.5, 3}, {0, 0, 0}} {
		if got, err := ratioReplicas(test.current, test.ratio, tolerance{0.1, 0.1}, pods); got != test.want || err != nil {
			t.Errorf("%+v: got %d, %v", test, got, err)
		}
	}
}

func TestSumsStopWhereNumbersEnd(t *testing.T) {
	if got := sum([]int64{math.MaxInt64 - 1, 1, 1}); got != math.MaxInt64 {
		t.Errorf("got %d", got)
	}
}
