package controller

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/store"
)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
}

// watcher makes a constructor of a controller over config maps.
func watcher(reconcile func(ctx context.Context, c client.Client, v client.TypedView[*corev1.ConfigMap], key Key) (Again, error)) Constructor {
	return Constructor{Name: "test", New: func(ctx context.Context, env Env) (Controller, error) {
		view, err := client.ConfigMaps.View(ctx, env.Client, client.Selection{})
		return Controller{
			Name:    "test",
			Inputs:  []Input{{view.View, Self}},
			Outputs: []string{"configmaps"},
			Reconcile: func(ctx context.Context, key Key) (Again, error) {
				return reconcile(ctx, env.Client, view, key)
			},
		}, err
	}}
}

func start(t *testing.T, c client.Client, o Options, cons ...Constructor) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	o.Client = func(string) client.Client { return c }
	done := make(chan error)
	go func() { done <- Run(ctx, o, cons) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
}

func TestAFailedKeyComesAgainAfterTimesThatDouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		stop := start(t, clienttest.New(configMap("a")), Options{}, watcher(func(context.Context, client.Client, client.TypedView[*corev1.ConfigMap], Key) (Again, error) {
			at = append(at, time.Since(begin))
			if len(at) < 4 {
				return Again{}, errors.New("no luck")
			}
			return Again{}, nil
		}))
		time.Sleep(time.Hour)
		stop()
		want := []time.Duration{0, 5 * time.Millisecond, 15 * time.Millisecond, 35 * time.Millisecond}
		for i, d := range want {
			if i >= len(at) || at[i] != d {
				t.Fatalf("reconciled at %v, want %v", at, want)
			}
		}
	})
}

func TestAgainComesAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		stop := start(t, clienttest.New(configMap("a")), Options{}, watcher(func(context.Context, client.Client, client.TypedView[*corev1.ConfigMap], Key) (Again, error) {
			calls++
			return Again{After: time.Minute}, nil
		}))
		time.Sleep(10*time.Minute + time.Second)
		stop()
		if calls != 11 {
			t.Errorf("reconciled %d times in ten minutes, want 11", calls)
		}
	})
}

func TestAPanicIsAnErrorOfItsKeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := map[string]int{}
		var mu sync.Mutex
		stop := start(t, clienttest.New(configMap("bad"), configMap("good")), Options{}, watcher(func(_ context.Context, _ client.Client, _ client.TypedView[*corev1.ConfigMap], key Key) (Again, error) {
			mu.Lock()
			defer mu.Unlock()
			calls[key.Name]++
			if key.Name == "bad" && calls["bad"] < 3 {
				panic("oops")
			}
			return Again{}, nil
		}))
		time.Sleep(time.Minute)
		stop()
		if calls["bad"] != 3 || calls["good"] != 1 {
			t.Errorf("got %v", calls)
		}
	})
}

func TestAKeyIsNeverWorkedOnTwiceAtATimeAndLosesNoChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clienttest.New(configMap("a"))
		busy, last := 0, ""
		stop := start(t, c, Options{}, watcher(func(ctx context.Context, _ client.Client, v client.TypedView[*corev1.ConfigMap], key Key) (Again, error) {
			busy++
			if busy > 1 {
				t.Error("two workers have the key")
			}
			cm, _ := v.Get(key.Namespace, key.Name)
			last = cm.Data["n"]
			_ = Sleep(ctx, time.Second)
			busy--
			return Again{}, nil
		}))
		for i := range 20 {
			cm, _ := client.ConfigMaps.Get(t.Context(), c, "ns", "a")
			cm = cm.DeepCopy()
			cm.Data = map[string]string{"n": string(rune('a' + i))}
			if _, err := client.ConfigMaps.Update(t.Context(), c, cm); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		stop()
		if last != "t" {
			t.Errorf("the last state seen is %q", last)
		}
	})
}

// lagging is a client whose views show changes only when the test lets them.
type lagging struct {
	client.Client
	shown chan struct{}
}

type laggingView struct {
	client.View
	shown chan struct{}
}

func (l lagging) View(ctx context.Context, gvr schema.GroupVersionResource, sel client.Selection) (client.View, error) {
	v, err := l.Client.View(ctx, gvr, sel)
	return laggingView{v, l.shown}, err
}

func (v laggingView) WaitFor(ctx context.Context, revision int64) error {
	if revision > 1 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-v.shown:
		}
	}
	return v.View.WaitFor(ctx, revision)
}

func TestAKeyWaitsForItsOwnWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shown := make(chan struct{})
		calls := 0
		stop := start(t, lagging{clienttest.New(configMap("a")), shown}, Options{}, watcher(func(ctx context.Context, c client.Client, _ client.TypedView[*corev1.ConfigMap], key Key) (Again, error) {
			calls++
			if calls == 1 {
				return Again{After: time.Second}, client.ConfigMaps.Delete(ctx, c, key.Namespace, key.Name, metav1.DeleteOptions{})
			}
			return Again{}, nil
		}))
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls != 1 {
			t.Errorf("reconciled %d times before its write was to be seen", calls)
		}
		close(shown)
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls < 2 {
			t.Error("not reconciled after its write was to be seen")
		}
		stop()
	})
}

type fakeTerm struct {
	fence    store.Fence
	lost     chan struct{}
	released chan struct{}
}

func (f *fakeTerm) Fence() store.Fence            { return f.fence }
func (f *fakeTerm) Lost() <-chan struct{}         { return f.lost }
func (f *fakeTerm) Release(context.Context) error { close(f.released); return nil }

type fakeElector chan *fakeTerm

func (f fakeElector) Campaign(ctx context.Context) (Term, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case t := <-f:
		return t, nil
	}
}

func TestLostLeadershipCancelsTheWorkersAndWaitsForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elector := make(fakeElector)
		var fences []store.Fence
		cleaning := false
		stop := start(t, clienttest.New(configMap("a")), Options{Elector: elector}, watcher(func(ctx context.Context, _ client.Client, _ client.TypedView[*corev1.ConfigMap], _ Key) (Again, error) {
			f, _ := store.FenceOf(ctx)
			fences = append(fences, f)
			<-ctx.Done()
			cleaning = true
			time.Sleep(time.Second)
			cleaning = false
			return Again{}, nil
		}))
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(fences) != 0 {
			t.Fatal("worked without leading")
		}
		for i := range 2 {
			term := &fakeTerm{fence: store.Fence{Key: "k", CreateRevision: int64(i + 1)}, lost: make(chan struct{}), released: make(chan struct{})}
			elector <- term
			synctest.Wait()
			close(term.lost)
			<-term.released
			if cleaning {
				t.Error("the leadership was given up while a worker still worked")
			}
		}
		stop()
		if len(fences) != 2 || fences[0].CreateRevision != 1 || fences[1].CreateRevision != 2 {
			t.Errorf("the writes carried %v", fences)
		}
	})
}

func TestAControllerThatCannotBeMadeEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := Run(t.Context(), Options{Client: func(string) client.Client { return clienttest.New() }}, []Constructor{
			watcher(nil), {Name: "broken", New: func(context.Context, Env) (Controller, error) { return Controller{}, errors.New("oops") }},
		})
		if err == nil || err.Error() != "make the broken controller: oops" {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheGraphTellsWhoReadsAndWritesWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		stop := start(t, clienttest.New(), Options{Ready: func(g Graph) { _ = g.Print(&out) }}, watcher(nil))
		synctest.Wait()
		stop()
		if want := "test\n  on     configmaps\n  writes configmaps\n"; out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	})
}

func TestOwnerOfMapsToBothOwnersWhenTheyDiffer(t *testing.T) {
	yes := true
	var got []string
	synctest.Test(t, func(t *testing.T) {
		c := clienttest.New()
		ctx, cancel := context.WithCancel(t.Context())
		v, _ := client.ConfigMaps.View(ctx, c, client.Selection{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = v.View.Subscribe(ctx, func(ch client.Change) {
				for _, k := range OwnerOf("ReplicaSet")(ch) {
					got = append(got, k.String())
				}
			})
		}()
		synctest.Wait()
		cm := configMap("a")
		cm.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "one", UID: "1", Controller: &yes}}
		stored, _ := client.ConfigMaps.Create(ctx, c, cm)
		next := stored.DeepCopy()
		next.OwnerReferences[0].Name = "two"
		_, _ = client.ConfigMaps.Update(ctx, c, next)
		synctest.Wait()
		cancel()
		<-done
	})
	if s := strings.Join(got, " "); s != "ns/one ns/one ns/two" {
		t.Errorf("got %s", s)
	}
}
