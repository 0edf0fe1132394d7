package garbagecollector

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/controller"
)

func TestWhatFollowsFromTheOwners(t *testing.T) {
	for name, test := range map[string]struct {
		owners             []ownerState
		dependents, circle bool
		want               action
	}{
		"an object without owners stays":                         {want: leave},
		"one with an owner stays":                                {owners: []ownerState{solid}, want: leave},
		"one whose owner has gone goes":                          {owners: []ownerState{absent}, want: remove},
		"one with a solid and an absent owner loses a reference": {owners: []ownerState{solid, absent}, want: dropRefs},
		"one with a solid and a waiting owner loses a reference": {owners: []ownerState{waiting, solid}, want: dropRefs},
		"one whose owner waits goes":                             {owners: []ownerState{waiting}, want: remove},
		"one whose owner waits goes after its own dependents":    {owners: []ownerState{waiting}, dependents: true, want: removeFor},
		"two that wait for each other don't wait for ever":       {owners: []ownerState{waiting}, dependents: true, circle: true, want: unblock},
		"one with an owner of an unknown kind stays":             {owners: []ownerState{absent, unknown}, want: leave},
		"one with an owner in a place where none can be stays":   {owners: []ownerState{invalid}, want: leave},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decide(test.owners, test.dependents, test.circle); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

var served = []client.KindInfo{
	{GroupVersionResource: client.Pods.GVR, Kind: "Pod", Namespaced: true, Verbs: []string{"list", "watch", "delete"}},
	{GroupVersionResource: client.ReplicaSets.GVR, Kind: "ReplicaSet", Namespaced: true, Verbs: []string{"list", "watch", "delete"}},
	{GroupVersionResource: client.Deployments.GVR, Kind: "Deployment", Namespaced: true, Verbs: []string{"list", "watch", "delete"}},
	{GroupVersionResource: client.Nodes.GVR, Kind: "Node", Verbs: []string{"list", "watch", "delete"}},
}

func owned(o client.Object, kind, name string) {
	yes := true
	api := "apps/v1"
	if kind == "Node" || kind == "Pod" {
		api = "v1"
	}
	o.SetOwnerReferences(append(o.GetOwnerReferences(), metav1.OwnerReference{APIVersion: api, Kind: kind, Name: name, UID: types.UID(name), Controller: &yes, BlockOwnerDeletion: &yes}))
}

// family is a Deployment with a ReplicaSet with two pods.
func family() []client.Object {
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}
	}
	d, rs := &appsv1.Deployment{ObjectMeta: meta("d")}, &appsv1.ReplicaSet{ObjectMeta: meta("rs")}
	p1, p2 := &corev1.Pod{ObjectMeta: meta("p1")}, &corev1.Pod{ObjectMeta: meta("p2")}
	owned(rs, "Deployment", "d")
	owned(p1, "ReplicaSet", "rs")
	owned(p2, "ReplicaSet", "rs")
	return []client.Object{d, rs, p1, p2}
}

func run(t *testing.T, objects []client.Object, body func(ctx context.Context, c *clienttest.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := clienttest.New(objects...)
		c.Serve(served)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- controller.Run(ctx, controller.Options{Client: func(string) client.Client { return c }}, []controller.Constructor{{Name: "gc", New: New}})
		}()
		time.Sleep(time.Second)
		body(ctx, c)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// left counts what is there.
func left(t *testing.T, ctx context.Context, c client.Client) (n int) {
	t.Helper()
	for _, k := range served {
		list, err := c.List(ctx, k.GroupVersionResource, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		n += len(list)
	}
	return n
}

func removeDeployment(t *testing.T, ctx context.Context, c client.Client, policy metav1.DeletionPropagation) {
	t.Helper()
	if err := client.Deployments.Delete(ctx, c, "ns", "d", metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Second)
}

func TestDeletingInTheBackgroundTakesTheFamilyAlong(t *testing.T) {
	run(t, family(), func(ctx context.Context, c *clienttest.Client) {
		if n := left(t, ctx, c); n != 4 {
			t.Fatalf("%d objects are left at the start", n)
		}
		removeDeployment(t, ctx, c, metav1.DeletePropagationBackground)
		if n := left(t, ctx, c); n != 0 {
			t.Errorf("%d objects are left", n)
		}
	})
}

func TestDeletingInTheForegroundEndsWithTheOwner(t *testing.T) {
	objects := family()
	d := objects[0]
	now := metav1.Now()
	d.SetDeletionTimestamp(&now)
	d.SetFinalizers([]string{metav1.FinalizerDeleteDependents})
	objects[2].SetFinalizers([]string{"test/hold"})
	run(t, objects, func(ctx context.Context, c *clienttest.Client) {
		time.Sleep(10 * time.Second)
		if n := left(t, ctx, c); n != 3 {
			t.Errorf("%d objects are left while a pod is held, want 3", n)
		}
		p, _ := client.Pods.Get(ctx, c, "ns", "p1")
		p = p.DeepCopy()
		p.Finalizers = nil
		if _, err := client.Pods.Update(ctx, c, p); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if n := left(t, ctx, c); n != 0 {
			t.Errorf("%d objects are left", n)
		}
	})
}

func TestOrphansAreSetFree(t *testing.T) {
	objects := family()
	d := objects[0]
	now := metav1.Now()
	d.SetDeletionTimestamp(&now)
	d.SetFinalizers([]string{metav1.FinalizerOrphanDependents})
	run(t, objects, func(ctx context.Context, c *clienttest.Client) {
		time.Sleep(10 * time.Second)
		rs, err := client.ReplicaSets.Get(ctx, c, "ns", "rs")
		if err != nil || len(rs.OwnerReferences) != 0 {
			t.Errorf("the set is %v, %v", rs, err)
		}
		if n := left(t, ctx, c); n != 3 {
			t.Errorf("%d objects are left, want 3", n)
		}
	})
}

func TestGarbageThatWasThereBeforeIsFound(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}}
	owned(pod, "ReplicaSet", "never")
	onNode := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "q"}}
	owned(onNode, "Node", "n")
	run(t, []client.Object{pod, onNode, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "n"}}}, func(ctx context.Context, c *clienttest.Client) {
		time.Sleep(10 * time.Second)
		if n := left(t, ctx, c); n != 2 {
			t.Errorf("%d objects are left, want the node and its pod", n)
		}
	})
}

func TestAClusterScopedObjectCannotHaveAnOwnerInANamespace(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "n"}}
	owned(node, "Pod", "gone")
	run(t, []client.Object{node}, func(ctx context.Context, c *clienttest.Client) {
		time.Sleep(10 * time.Second)
		if n := left(t, ctx, c); n != 1 {
			t.Errorf("the node is gone")
		}
	})
}

func TestAnOwnerOfAnUnknownKindKeepsItsDependentsUntilTheKindAppears(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}}
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "gone", UID: "gone"}}
	run(t, []client.Object{pod}, func(ctx context.Context, c *clienttest.Client) {
		time.Sleep(10 * time.Second)
		if n := left(t, ctx, c); n != 1 {
			t.Fatalf("%d objects are left", n)
		}
		c.Serve(append(served, client.KindInfo{GroupVersionResource: client.Jobs.GVR, Kind: "Job", Namespaced: true, Verbs: []string{"list", "watch", "delete"}}))
		time.Sleep(10 * time.Second)
		if n := left(t, ctx, c); n != 0 {
			t.Errorf("%d objects are left", n)
		}
	})
}
