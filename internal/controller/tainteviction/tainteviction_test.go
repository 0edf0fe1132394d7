package tainteviction

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/controller"
)

func TestWhenAPodMustGo(t *testing.T) {
	created := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	tainted := created.Add(time.Minute)
	seconds := func(n int64) *int64 { return &n }
	tolerate := func(key string, s *int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: s}
	}
	lost := corev1.Taint{Key: "lost", Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: tainted}}
	old := corev1.Taint{Key: "old", Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: created.Add(-time.Hour)}}
	for name, test := range map[string]struct {
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		want        time.Time // zero: it may stay
	}{
		"a pod that tolerates nothing goes at once":               {taints: []corev1.Taint{lost}, want: tainted},
		"one that tolerates it for ever stays":                    {taints: []corev1.Taint{lost}, tolerations: []corev1.Toleration{tolerate("lost", nil)}},
		"one that tolerates it for a time goes then":              {taints: []corev1.Taint{lost}, tolerations: []corev1.Toleration{tolerate("lost", seconds(300))}, want: tainted.Add(5 * time.Minute)},
		"the least of its times counts":                           {taints: []corev1.Taint{lost}, tolerations: []corev1.Toleration{tolerate("lost", seconds(300)), tolerate("", seconds(10))}, want: tainted.Add(10 * time.Second)},
		"a negative time is none":                                 {taints: []corev1.Taint{lost}, tolerations: []corev1.Toleration{tolerate("lost", seconds(-5))}, want: tainted},
		"the time counts from the pod's coming to an older taint": {taints: []corev1.Taint{old}, tolerations: []corev1.Toleration{tolerate("old", seconds(60))}, want: created.Add(time.Minute)},
		"the first of several taints counts":                      {taints: []corev1.Taint{lost, old}, tolerations: []corev1.Toleration{tolerate("lost", seconds(300)), tolerate("old", nil)}, want: tainted.Add(5 * time.Minute)},
		"a taint of another effect is none of this":               {taints: []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectNoSchedule}}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(created)}, Spec: corev1.PodSpec{Tolerations: test.tolerations}}
			got := deadline(pod, &corev1.Node{Spec: corev1.NodeSpec{Taints: test.taints}})
			if (got == nil) != test.want.IsZero() || got != nil && !got.Equal(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestAPodIsEvictedWhenItsTimeHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		minute := int64(60)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n",
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists, TolerationSeconds: &minute, Effect: corev1.TaintEffectNoExecute}}}}
		c := clienttest.New(pod, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- controller.Run(ctx, controller.Options{Client: func(string) client.Client { return c }}, []controller.Constructor{{Name: "taints", New: New}})
		}()
		time.Sleep(time.Hour)
		n, _ := client.Nodes.Get(ctx, c, "", "n")
		n = n.DeepCopy()
		n.Spec.Taints = []corev1.Taint{{Key: "lost", Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: time.Now()}}}
		if _, err := client.Nodes.Update(ctx, c, n); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if p, err := client.Pods.Get(ctx, c, "ns", "p"); err != nil || p.DeletionTimestamp != nil {
			t.Errorf("after 59 s: %v", err)
		}
		time.Sleep(2 * time.Second)
		if p, err := client.Pods.Get(ctx, c, "ns", "p"); !apierrors.IsNotFound(err) && p.DeletionTimestamp == nil {
			t.Errorf("after 61 s it is still there: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
