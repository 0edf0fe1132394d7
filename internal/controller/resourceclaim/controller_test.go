package resourceclaim

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/controller"
)

func TestTheNameOfAGeneratedClaim(t *testing.T) {
	for name, test := range map[string]struct{ pod, claim, want string }{
		"is of the pod and what it calls the claim": {"web", "gpu", "web-gpu-"},
		"is of something of both if they are long": {"a-very-long-name-of-a-pod-that-goes-on-and-on", "an-equally-long-name-of-the-claim",
			"a-very-long-name-of-a-pod-that-g-an-equally-long-name-of"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := baseName(test.pod, test.claim); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func run(t *testing.T, c client.Client, then func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- controller.Run(ctx, controller.Options{Client: func(string) client.Client { return c }}, []controller.Constructor{{Name: "resourceclaim", New: New}})
	}()
	time.Sleep(time.Minute)
	then(ctx)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAClaimLosesItsAllocationWithItsLastUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claim := &resourcev1.ResourceClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", Finalizers: []string{resourcev1.Finalizer}},
			Status: resourcev1.ResourceClaimStatus{
				Allocation:  &resourcev1.AllocationResult{},
				ReservedFor: []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "gone", UID: "1"}, {Resource: "pods", Name: "done", UID: "2"}},
			},
		}
		done := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "done", UID: "2"},
			Spec: corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{Name: "x", ResourceClaimName: new("c")}}}, Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}
		c := clienttest.New(claim, done)
		run(t, c, func(ctx context.Context) {
			got, err := client.ResourceClaims.Get(ctx, c, "ns", "c")
			if err != nil || got.Status.Allocation != nil || len(got.Status.ReservedFor) > 0 || len(got.Finalizers) > 0 {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	})
}

func TestAReservationLastsAsLongAsItsPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		claim := &resourcev1.ResourceClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", Finalizers: []string{resourcev1.Finalizer}},
			Status:     resourcev1.ResourceClaimStatus{Allocation: &resourcev1.AllocationResult{}},
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "1"},
			Spec: corev1.PodSpec{NodeName: "n", ResourceClaims: []corev1.PodResourceClaim{{Name: "x", ResourceClaimName: new("c")}}}}
		c := clienttest.New(claim, pod)
		run(t, c, func(ctx context.Context) {
			got, err := client.ResourceClaims.Get(ctx, c, "ns", "c")
			if err != nil || got.Status.Allocation == nil || len(got.Status.ReservedFor) != 1 || got.Status.ReservedFor[0].UID != "1" {
				t.Errorf("a pod with a node and an allocated claim: got %+v, %v", got, err)
			}
		})
	})
}
