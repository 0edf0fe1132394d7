package podgc

import (
	"context"
	"fmt"
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

func TestThePodsThatAreTooManyAreTheEvictedAndTheOldest(t *testing.T) {
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var pods []*corev1.Pod
	for i := range 5 {
		pods = append(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i), CreationTimestamp: metav1.NewTime(begin.Add(time.Duration(i) * time.Minute))}})
	}
	pods[4].Status.Reason = "Evicted"
	got := ""
	for _, p := range excess(pods, 3) {
		got += p.Name
	}
	if got != "40" {
		t.Errorf("got %s", got)
	}
}

func TestWhatIsDueForAPod(t *testing.T) {
	now := metav1.Now()
	gone := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: corev1.TaintNodeOutOfService}}}}
	for name, test := range map[string]struct {
		node     string
		deleting bool
		there    *corev1.Node
		want     verdict
	}{
		"a pod that waits for a node stays":                      {want: keep},
		"one that is deleted before it got a node goes":          {deleting: true, want: unbound},
		"one on a node stays":                                    {node: "n", there: &corev1.Node{}, want: keep},
		"one that is deleted is left to its kubelet":             {node: "n", there: &corev1.Node{}, deleting: true, want: keep},
		"one that is deleted on a node out of service goes":      {node: "n", there: gone, deleting: true, want: stranded},
		"one on a node out of service stays unless it's deleted": {node: "n", there: gone, want: keep},
		"one whose node doesn't exist goes":                      {node: "n", want: orphaned},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{NodeName: test.node}}
			if test.deleting {
				pod.DeletionTimestamp = &now
			}
			if got := judge(pod, test.there); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestPodsOfAMissingNodeGoAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clienttest.New(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n"}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- controller.Run(ctx, controller.Options{Client: func(string) client.Client { return c }}, []controller.Constructor{{Name: "podgc", New: New}})
		}()
		time.Sleep(39 * time.Second)
		if _, err := client.Pods.Get(ctx, c, "ns", "p"); err != nil {
			t.Errorf("after 39 s: %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, err := client.Pods.Get(ctx, c, "ns", "p"); !apierrors.IsNotFound(err) {
			t.Errorf("after 41 s: %v", err)
		}
		failed := false
		for _, w := range c.Writes() {
			failed = failed || w.Verb == "patch" && w.Subresource == "status"
		}
		if !failed {
			t.Error("it wasn't marked as failed")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
