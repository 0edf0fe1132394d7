package apiserver_test

import (
	"context"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
)

func TestTheLocalClientTakesTheSamePath(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, testPods)
	c := f.Client(administrator)
	var noted int64
	ctx = client.WithNotes(ctx, func(revision int64) { noted = revision })
	mine := pod("p", "")
	created, err := client.Pods.Create(ctx, c, mine)
	if err != nil {
		t.Fatal(err)
	}
	if mine.UID != "" || created.UID == "" || noted == 0 {
		t.Errorf("mine %+v, created %+v, noted %d", mine.ObjectMeta, created.ObjectMeta, noted)
	}
	got, err := client.Pods.Get(ctx, c, "default", "p")
	if err != nil || got.ResourceVersion != created.ResourceVersion {
		t.Fatalf("got %v, %v", got, err)
	}
	next := got.DeepCopy()
	next.Status.Phase = corev1.PodRunning
	if next, err = client.Pods.UpdateStatus(ctx, c, next); err != nil || next.Status.Phase != corev1.PodRunning {
		t.Fatalf("got %v, %v", next, err)
	}
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Name: "n1"}}
	if _, err := client.Pods.CreateSub(ctx, c, "default", "p", "binding", binding); err != nil {
		t.Fatal(err)
	}
	list, err := client.Pods.List(ctx, c, "default", labels.Everything())
	if err != nil || len(list) != 1 || list[0].Spec.NodeName != "n1" {
		t.Fatalf("got %v, %v", list, err)
	}
	_, err = client.Pods.Get(ctx, f.Client(api.UserInfo{Name: "bob"}), "default", "p")
	if !apierrors.IsForbidden(err) {
		t.Errorf("bob: %v", err)
	}
	zero := int64(0)
	if err := client.Pods.Delete(ctx, c, "default", "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
}

func TestAViewFollowsTheTable(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	f := newFixture(t, testPods)
	c := f.Client(administrator)
	for _, p := range []*corev1.Pod{pod("a", "n1"), pod("b", "n2")} {
		if _, err := client.Pods.Create(ctx, c, p); err != nil {
			t.Fatal(err)
		}
	}
	view, err := client.Pods.View(ctx, c, client.Selection{Field: "spec.nodeName", Value: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := view.View.WaitFor(ctx, 0); err != nil {
		t.Fatal(err)
	}
	type change struct{ old, new string }
	changes := make(chan change, 10)
	name := func(p *corev1.Pod) string {
		if p == nil {
			return ""
		}
		return p.Name + " " + string(p.Status.Phase)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := view.Subscribe(ctx, func(old, new *corev1.Pod) { changes <- change{name(old), name(new)} }); err != context.Canceled {
			t.Errorf("subscribe: %v", err)
		}
	})
	expect := func(want change) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("waited in vain for %+v", want)
		}
	}
	expect(change{"", "a Pending"})
	p, _ := view.Get("default", "a")
	next := p.DeepCopy()
	next.Status.Phase = corev1.PodRunning
	var reached int64
	if _, err := client.Pods.UpdateStatus(client.WithNotes(ctx, func(r int64) { reached = r }), c, next); err != nil {
		t.Fatal(err)
	}
	expect(change{"a Pending", "a Running"})
	if err := view.View.WaitFor(ctx, reached); err != nil {
		t.Fatal(err)
	}
	if p, ok := view.Get("default", "a"); !ok || p.Status.Phase != corev1.PodRunning {
		t.Errorf("got %v", p)
	}
	if _, ok := view.Get("default", "b"); ok {
		t.Error("the view shows another node's pod")
	}
	if all := view.List("", nil); len(all) != 1 {
		t.Errorf("got %d", len(all))
	}
	zero := int64(0)
	if err := client.Pods.Delete(ctx, c, "default", "a", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	expect(change{"a Running", "a Running"}) // marked
	expect(change{"a Running", ""})
	cancel()
	done.Wait()
}

func TestInformersOfClientGoWork(t *testing.T) {
	for form, contentType := range forms {
		t.Run(form, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			f := newFixture(t)
			c := f.clients(t, contentType)
			for i := range 10 {
				must(c.CoreV1().ConfigMaps("default").Create(ctx, cm(nameOf(i), nil), metav1.CreateOptions{}))(t)
			}
			factory := informers.NewSharedInformerFactory(c, 0)
			informer := factory.Core().V1().ConfigMaps().Informer()
			added := make(chan string, 100)
			must(informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(o any) { added <- o.(*corev1.ConfigMap).Name }}))(t)
			factory.Start(ctx.Done())
			if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
				t.Fatal("the informer does not sync")
			}
			must(c.CoreV1().ConfigMaps("default").Create(ctx, cm("later", nil), metav1.CreateOptions{}))(t)
			for range 11 {
				<-added
			}
			cancel()
			factory.Shutdown()
		})
	}
}

func TestAThousandWritersLoseNoUpdate(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	c := f.Client(administrator)
	if _, err := client.ConfigMaps.Create(ctx, c, cm("counter", nil)); err != nil {
		t.Fatal(err)
	}
	const writers = 200
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			patch := []byte(`{"data":{"` + nameOf(i) + `":"1"}}`)
			if _, err := client.ConfigMaps.Patch(ctx, c, "default", "counter", "", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	group.Wait()
	got, err := client.ConfigMaps.Get(ctx, c, "default", "counter")
	if err != nil || len(got.Data) != writers {
		t.Errorf("%d of %d writes are there, %v", len(got.Data), writers, err)
	}
}
