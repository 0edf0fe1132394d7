package replicaset

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/controller"
)

func run(t *testing.T, c client.Client, body func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- controller.Run(ctx, controller.Options{Client: func(string) client.Client { return c }}, []controller.Constructor{
			{Name: "replicaset", New: New}, {Name: "replication", New: NewReplicationController}})
	}()
	body(ctx)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func podsOf(ctx context.Context, t *testing.T, c client.Client, uid string) []string {
	t.Helper()
	list, err := client.Pods.List(ctx, c, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range list {
		if ref := metav1.GetControllerOf(p); ref != nil && string(ref.UID) == uid && p.DeletionTimestamp == nil {
			out = append(out, p.Name)
		}
	}
	return out
}

func TestASetKeepsItsNumberOfPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clienttest.New(set(3))
		run(t, c, func(ctx context.Context) {
			time.Sleep(time.Second)
			first := podsOf(ctx, t, c, "set")
			if len(first) != 3 {
				t.Fatalf("has %v", first)
			}
			if err := client.Pods.Delete(ctx, c, "ns", first[0], metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if now := podsOf(ctx, t, c, "set"); len(now) != 3 || slices.Contains(now, first[0]) {
				t.Errorf("after the loss of %s it has %v", first[0], now)
			}
			rs, _ := client.ReplicaSets.Get(ctx, c, "ns", "web")
			if rs.Status.Replicas != 3 || rs.Status.ObservedGeneration != 3 {
				t.Errorf("status is %+v", rs.Status)
			}
			rs = rs.DeepCopy()
			*rs.Spec.Replicas = 1
			if _, err := client.ReplicaSets.Update(ctx, c, rs); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if now := podsOf(ctx, t, c, "set"); len(now) != 1 {
				t.Errorf("scaled to 1 it has %v", now)
			}
		})
		created := 0
		for _, w := range c.Writes() {
			if w.Verb == "create" && w.Resource.Resource == "pods" {
				created++
			}
		}
		if created != 4 {
			t.Errorf("created %d pods, want 4 and no more", created)
		}
	})
}

func TestASetAdoptsOrphansAndReleasesWhatNoLongerMatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "orphan", Labels: map[string]string{"app": "web"}}}
		c := clienttest.New(set(1), orphan)
		run(t, c, func(ctx context.Context) {
			time.Sleep(time.Second)
			if got := podsOf(ctx, t, c, "set"); !slices.Equal(got, []string{"orphan"}) {
				t.Fatalf("owns %v", got)
			}
			p, _ := client.Pods.Get(ctx, c, "ns", "orphan")
			p = p.DeepCopy()
			p.Labels["app"] = "other"
			if _, err := client.Pods.Update(ctx, c, p); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if p, _ := client.Pods.Get(ctx, c, "ns", "orphan"); len(p.OwnerReferences) != 0 {
				t.Errorf("not released: %v", p.OwnerReferences)
			}
			if got := podsOf(ctx, t, c, "set"); len(got) != 1 {
				t.Errorf("owns %v", got)
			}
		})
	})
}

func TestAReplicationControllerDoesTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := int32(2)
		rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rc", UID: "rc"},
			Spec: corev1.ReplicationControllerSpec{Replicas: &n, Selector: map[string]string{"app": "rc"},
				Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "rc"}}}}}
		c := clienttest.New(rc, &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "x"}, Spec: appsv1.ReplicaSetSpec{Replicas: new(int32)}})
		run(t, c, func(ctx context.Context) {
			time.Sleep(time.Second)
			if got := podsOf(ctx, t, c, "rc"); len(got) != 2 {
				t.Errorf("owns %v", got)
			}
			rc, _ := client.ReplicationControllers.Get(ctx, c, "ns", "rc")
			if rc.Status.Replicas != 2 {
				t.Errorf("status is %+v", rc.Status)
			}
		})
	})
}
