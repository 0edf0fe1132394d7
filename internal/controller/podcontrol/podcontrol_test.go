package podcontrol

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func TestWhichPodIsGivenUpFirst(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"one without a node":              func(p *corev1.Pod) { p.Spec.NodeName = "" },
		"a pending one":                   func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending },
		"one that isn't ready":            func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse },
		"one of lower cost":               func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "-5"} },
		"one whose node has more of them": func(p *corev1.Pod) { p.Spec.NodeName = "crowded" },
		"one that became ready later": func(p *corev1.Pod) {
			p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-time.Minute))
		},
		"one that restarted more often": func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}} },
		"the younger":                   func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-time.Minute)) },
	} {
		t.Run(name, func(t *testing.T) {
			crowd := func(p *corev1.Pod) { p.Spec.NodeName = "crowded" }
			pods := []*corev1.Pod{pod("a"), pod("b", change), pod("c")}
			related := append(slices.Clone(pods), pod("r1", crowd), pod("r2", crowd), pod("r3", crowd))
			if got := ToDelete(pods, related, 1, now); len(got) != 1 || got[0].Name != "b" {
				t.Errorf("gave up %s", got[0].Name)
			}
		})
	}
}

func TestAvailability(t *testing.T) {
	ready := pod("a", func(p *corev1.Pod) {
		p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-10 * time.Second))
	})
	for min, want := range map[int32]bool{0: true, 9: true, 10: true, 11: false} {
		if got := Available(ready, min, now); got != want {
			t.Errorf("ready for 10 s, with minReadySeconds %d: got %v", min, got)
		}
	}
}

func TestSlowStartStopsAfterTheBatchThatFails(t *testing.T) {
	var mu sync.Mutex
	calls := 0
	n, err := SlowStart(100, func(i int) error {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if i == 5 {
			return errors.New("quota")
		}
		return nil
	})
	if err == nil || calls != 7 || n != 6 {
		t.Errorf("%d calls, %d succeeded, %v; want 1+2+4 calls", calls, n, err)
	}
}

func TestAPodIsNamedAfterItsOwnerAndKeepsNothingOfTheTemplate(t *testing.T) {
	template := &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}}
	p := FromTemplate(template, "ns", "web", &metav1.OwnerReference{Name: "web"})
	p.Labels["a"] = "c"
	if template.Labels["a"] != "b" || p.GenerateName != "web-" || len(p.OwnerReferences) != 1 {
		t.Errorf("got %+v from %+v", p.ObjectMeta, template.ObjectMeta)
	}
}
