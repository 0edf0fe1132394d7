package backends

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/controller"
)

var start = time.Unix(1_700_000_000, 0)

func after(seconds int) metav1.Time {
	return metav1.NewTime(start.Add(time.Duration(seconds) * time.Second))
}

func readyAt(name string, seconds int) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	if seconds > 0 {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, LastTransitionTime: after(seconds)}}
	}
	return pod
}

// TestAChangeIsSinceTheFirstOfWhatChanged goes through looks at one Service, one after the other.
func TestAChangeIsSinceTheFirstOfWhatChanged(t *testing.T) {
	triggers := NewTriggers()
	for _, look := range []struct {
		name    string
		created int
		pods    []*corev1.Pod
		want    int // 0 is none
	}{
		{"the first look tells the Service's creation, whatever pods there are", 10, []*corev1.Pod{readyAt("old", 5), readyAt("a", 20)}, 10},
		{"nothing has changed", 10, []*corev1.Pod{readyAt("old", 5), readyAt("a", 20)}, 0},
		{"a pod that isn't ready yet, nor was", 10, []*corev1.Pod{readyAt("old", 5), readyAt("a", 20), readyAt("b", 0)}, 0},
		{"two become ready: the first counts", 10, []*corev1.Pod{readyAt("old", 5), readyAt("a", 20), readyAt("b", 32), readyAt("c", 31)}, 31},
		{"one goes", 10, []*corev1.Pod{readyAt("old", 5), readyAt("a", 20), readyAt("c", 31)}, 0},
		{"another of its name comes", 10, []*corev1.Pod{readyAt("old", 5), readyAt("a", 20), readyAt("b", 40), readyAt("c", 31)}, 40},
		{"a clock that goes back is no change", 10, []*corev1.Pod{readyAt("old", 5), readyAt("a", 19), readyAt("b", 40), readyAt("c", 31)}, 0},
		{"one that was ready for long is selected now", 10, []*corev1.Pod{readyAt("old", 5), readyAt("a", 19), readyAt("b", 40), readyAt("c", 31), readyAt("d", 2)}, 2},
		{"the Service is made anew", 50, []*corev1.Pod{readyAt("a", 60)}, 50},
		{"a pod's condition goes and another comes", 50, []*corev1.Pod{readyAt("a", 0), readyAt("b", 70)}, 70},
	} {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", CreationTimestamp: after(look.created)}}
		want := time.Time{}
		if look.want > 0 {
			want = after(look.want).Time
		}
		if got := triggers.Since(svc, look.pods); !got.Equal(want) {
			t.Errorf("%s: since %v, not %v", look.name, got, want)
		}
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", CreationTimestamp: after(50)}}
	triggers.Forget(controller.Key{Namespace: "ns", Name: "web"})
	if got := triggers.Since(svc, []*corev1.Pod{readyAt("b", 80)}); !got.Equal(after(50).Time) {
		t.Errorf("what was forgotten is new: since %v", got)
	}
}

func TestTheAnnotationIsInUpstreamsForm(t *testing.T) {
	var annotations map[string]string
	Annotate(&annotations, time.Time{})
	if annotations != nil {
		t.Errorf("nothing to say is said as %v", annotations)
	}
	Annotate(&annotations, time.Date(2026, 5, 4, 3, 2, 1, 0, time.FixedZone("east", 3600)))
	if got := annotations[corev1.EndpointsLastChangeTriggerTime]; got != "2026-05-04T02:02:01Z" {
		t.Errorf("got %q", got)
	}
	Annotate(&annotations, time.Time{})
	if len(annotations) != 0 {
		t.Errorf("an earlier change's time stays: %v", annotations)
	}
}

// BenchmarkSince is a look at a Service of a thousand pods of which one has changed.
func BenchmarkSince(b *testing.B) {
	triggers := NewTriggers()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", CreationTimestamp: after(1)}}
	var pods []*corev1.Pod
	for i := range 1000 {
		pods = append(pods, readyAt(fmt.Sprint("web-7d4b9c-", i), 1+i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		pods[7].Status.Conditions[0].LastTransitionTime = after(2000 + i)
		triggers.Since(svc, pods)
	}
}
