package remote

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
)

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAnObjectGoesThereAndBack(t *testing.T) {
	_, c := newFakeAPI(t)
	ctx := testContext(t)
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}, Data: map[string]string{"v": "1"}}
	if _, err := client.ConfigMaps.Create(ctx, c, cm); err != nil {
		t.Fatal(err)
	}
	got, err := client.ConfigMaps.Get(ctx, c, "ns", "a")
	if err != nil || got.Data["v"] != "1" || got.ResourceVersion == "" {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestErrorsAreTheServers(t *testing.T) {
	_, c := newFakeAPI(t)
	ctx := testContext(t)
	if _, err := client.ConfigMaps.Get(ctx, c, "ns", "absent"); !apierrors.IsNotFound(err) || err.Error() != `configmaps "absent" not found` {
		t.Errorf("got %v", err)
	}
	if _, err := client.ConfigMaps.Get(ctx, c, "ns", "busy"); !apierrors.IsTooManyRequests(err) {
		t.Errorf("got %v", err)
	}
}

// recorder writes down the changes that a subscriber sees.
type recorder struct {
	t  *testing.T
	ch chan string
}

func subscribe(t *testing.T, ctx context.Context, v client.TypedView[*corev1.ConfigMap]) recorder {
	t.Helper()
	r := recorder{t, make(chan string, 100)}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		_ = v.Subscribe(ctx, func(old, new *corev1.ConfigMap) {
			switch {
			case old == nil:
				r.ch <- "+" + new.Name + "=" + new.Data["v"]
			case new == nil:
				r.ch <- "-" + old.Name
			default:
				r.ch <- new.Name + ":" + old.Data["v"] + ">" + new.Data["v"]
			}
		})
	}()
	return r
}

func (r recorder) expect(want ...string) {
	r.t.Helper()
	var got []string
	for range want {
		select {
		case s := <-r.ch:
			got = append(got, s)
		case <-time.After(20 * time.Second):
			r.t.Fatalf("saw %v, want %v", got, want)
		}
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("saw %v, want %v", got, want)
	}
}

func TestAViewFollowsTheServer(t *testing.T) {
	api, c := newFakeAPI(t)
	ctx := testContext(t)
	api.put("a", "1")
	view, err := client.ConfigMaps.View(ctx, c, client.Selection{Namespace: "ns"})
	if err != nil {
		t.Fatal(err)
	}
	if err := view.View.WaitFor(ctx, 0); err != nil {
		t.Fatal(err)
	}
	seen := subscribe(t, ctx, view)
	seen.expect("+a=1")
	api.put("b", "1")
	api.put("a", "2")
	api.remove("b")
	seen.expect("+b=1", "a:1>2", "-b")
	rev := api.put("c", "1")
	if err := view.View.WaitFor(ctx, rev); err != nil {
		t.Fatal(err)
	}
	if _, ok := view.Get("ns", "c"); !ok || len(view.List("ns", nil)) != 2 {
		t.Fatalf("the view holds %v", view.List("", nil))
	}
}

func TestAViewKeepsOnlyWhatItsReaderNeeds(t *testing.T) {
	api, c := newFakeAPI(t)
	ctx := testContext(t)
	api.put("first", "1")
	view, err := client.ConfigMaps.View(ctx, c, client.Selection{Trim: func(o client.Object) { o.(*corev1.ConfigMap).Data = nil }})
	if err != nil {
		t.Fatal(err)
	}
	seen := subscribe(t, ctx, view)
	seen.expect("+first=")
	api.put("later", "1")
	seen.expect("+later=")
}

func TestABrokenStreamResumes(t *testing.T) {
	api, c := newFakeAPI(t)
	ctx := testContext(t)
	api.put("a", "1")
	view, _ := client.ConfigMaps.View(ctx, c, client.Selection{Namespace: "ns"})
	seen := subscribe(t, ctx, view)
	seen.expect("+a=1")
	api.breakStreams()
	api.put("a", "2")
	seen.expect("a:1>2")
	for len(api.asked()) < 2 { // the change may have come before the break
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			t.Fatal("it does not reconnect")
		}
	}
	if last := api.asked()[1]; !strings.Contains(last, "resourceVersion=11") && !strings.Contains(last, "resourceVersion=12") {
		t.Errorf("the second watch asked %s", last)
	}
}

func TestAfter410OnlyDifferencesAreReported(t *testing.T) {
	api, c := newFakeAPI(t)
	ctx := testContext(t)
	for _, name := range []string{"changed", "gone", "same"} {
		api.put(name, "1")
	}
	view, _ := client.ConfigMaps.View(ctx, c, client.Selection{Namespace: "ns"})
	if err := view.View.WaitFor(ctx, 0); err != nil {
		t.Fatal(err)
	}
	seen := subscribe(t, ctx, view)
	seen.expect("+changed=1", "+gone=1", "+same=1")
	api.mu.Lock() // nothing is delivered until all has happened
	api.oldest = 1 << 40
	api.mu.Unlock()
	api.breakStreams()
	api.remove("gone")
	api.put("changed", "2")
	api.put("new", "1")
	api.forget()
	got := map[string]bool{}
	for range 3 {
		select {
		case s := <-seen.ch:
			got[s] = true
		case <-ctx.Done():
			t.Fatalf("saw %v", got)
		}
	}
	for _, want := range []string{"-gone", "changed:1>2", "+new=1"} {
		if !got[want] {
			t.Errorf("did not see %s, but %v", want, got)
		}
	}
}

func TestASlowSubscriberSeesTheDifferences(t *testing.T) {
	v := newView(client.ConfigMaps.GVR)
	put := func(name string, rev int64) {
		v.put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: fmt.Sprint(rev)}}, rev)
	}
	ctx, cancel := context.WithCancel(t.Context())
	started, release := make(chan struct{}), make(chan struct{})
	state := map[string]int64{}
	calls := 0
	put("first", 1)
	done := make(chan struct{})
	const n = 3 * maxPending
	go func() {
		defer close(done)
		_ = v.Subscribe(ctx, func(c client.Change) {
			if calls == 0 {
				close(started)
				<-release
			}
			calls++
			if c.New == nil {
				delete(state, c.Old.Name())
			} else {
				state[c.New.Name()] = c.New.Revision()
			}
			if state["last"] == n+3 {
				cancel()
			}
		})
	}()
	<-started
	for i := range int64(n) {
		put("busy", i+2)
	}
	v.remove("ns", "first", n+2)
	put("last", n+3)
	close(release)
	<-done
	if calls > maxPending+10 || len(state) != 2 || state["busy"] != n+1 {
		t.Errorf("after %d calls the subscriber believes %v", calls, state)
	}
}

func TestAWaitForARevisionThatTheWatchDoesNotShowOpensItAnew(t *testing.T) {
	api, c := newFakeAPI(t)
	ctx := testContext(t)
	view, _ := client.ConfigMaps.View(ctx, c, client.Selection{Namespace: "ns"})
	if err := view.View.WaitFor(ctx, 0); err != nil {
		t.Fatal(err)
	}
	api.mu.Lock()
	api.revision = 1000 // something else was written
	api.mu.Unlock()
	if err := view.View.WaitFor(ctx, 1000); err != nil {
		t.Fatal(err)
	}
}
