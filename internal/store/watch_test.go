package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

func dataOf(o runtime.Object) string {
	s, _, _ := unstructured.NestedString(o.(*unstructured.Unstructured).Object, "data")
	return s
}

func noteOf(o runtime.Object) string { return o.(*unstructured.Unstructured).GetAnnotations()["note"] }

// reader takes events one by one.
type reader struct {
	t       testing.TB
	w       *store.Watch
	pending []store.Event
	last    store.Event
}

func (r *reader) next() store.Event {
	r.t.Helper()
	for len(r.pending) == 0 {
		ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
		batch, _, err := r.w.Next(ctx)
		cancel()
		if err != nil {
			r.t.Fatalf("after %v: %v", r.last, err)
		}
		r.pending = batch
	}
	r.last, r.pending = r.pending[0], r.pending[1:]
	return r.last
}

// want checks the next event, as "TYPE key".
func (r *reader) want(what string) store.Event {
	r.t.Helper()
	ev := r.next()
	if got := ev.Type.String() + " " + ev.Entry().Key(); got != what {
		r.t.Fatalf("got %s at %d, want %s", got, ev.Revision(), what)
	}
	if ev.Entry().Revision() != ev.Revision() {
		r.t.Fatalf("%s: the object says %d, the event %d", what, ev.Entry().Revision(), ev.Revision())
	}
	storetest.Data(r.t, ev.Entry())
	return ev
}

// quiet checks that everything up to now has been seen.
func (r *reader) quiet(s *store.Store) {
	r.t.Helper()
	now := mustSync(r.t, s)
	if len(r.pending) > 0 || r.w.Progress() < now {
		r.t.Fatalf("more events wait: progress %d of %d, %d pending", r.w.Progress(), now, len(r.pending))
	}
}

func watch(t testing.TB, table *store.Table, o store.WatchOptions) *reader {
	t.Helper()
	w, err := table.Watch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return &reader{t: t, w: w}
}

func TestWatchSeesEveryChangeOnceInOrderUnderConcurrentWrites(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	const writers, each = 8, 40
	r := watch(t, table, store.WatchOptions{FromNow: true})
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			name := fmt.Sprint(n)
			revision := mustCreate(t, table, storetest.Named("ns", name, "0"))
			for i := 1; i < each; i++ {
				revision = mustUpdate(t, table, storetest.Named("ns", name, fmt.Sprint(i)), revision)
			}
		})
	}
	seen := map[string]int{}
	var last int64
	for range writers * each {
		ev := r.next()
		if ev.Revision() <= last {
			t.Fatalf("revision %d after %d", ev.Revision(), last)
		}
		last = ev.Revision()
		if got := storetest.Data(t, ev.Entry()); got != fmt.Sprint(seen[ev.Entry().Key()]) {
			t.Fatalf("%s: got version %s, want %d", ev.Entry().Key(), got, seen[ev.Entry().Key()])
		}
		seen[ev.Entry().Key()]++
	}
	wg.Wait()
	r.quiet(s)
}

func TestWatchResumes(t *testing.T) {
	cfg := storetest.Config(t, t.TempDir())
	s := storetest.Open(t, cfg)
	table := things(t, s)
	first := mustCreate(t, table, storetest.Named("ns", "a", "1"))
	mustCreate(t, table, storetest.Named("ns", "b", "1"))
	mustUpdate(t, table, storetest.Named("ns", "a", "2"), 0)
	mustDelete(t, table, "ns/b")
	last := mustCreate(t, table, storetest.Named("ns", "b", "3"))

	check := func(t *testing.T, table *store.Table, s *store.Store) {
		r := watch(t, table, store.WatchOptions{After: first})
		r.want("ADDED ns/b")
		if ev := r.want("MODIFIED ns/a"); storetest.Data(t, ev.Former()) != "1" {
			t.Fatal("the former object is missing")
		}
		if ev := r.want("DELETED ns/b"); storetest.Data(t, ev.Entry()) != "1" {
			t.Fatal("the deleted object is another")
		}
		r.want("ADDED ns/b")
		r.quiet(s)
		watch(t, table, store.WatchOptions{After: last}).quiet(s)
	}
	t.Run("from the log", func(t *testing.T) { check(t, table, s) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, cfg)
	table = things(t, s)
	t.Run("from etcd's history after a restart", func(t *testing.T) { check(t, table, s) })
	t.Run("not from the future", func(t *testing.T) {
		_, err := table.Watch(t.Context(), store.WatchOptions{After: last + 1000})
		wantErr(t, err, store.ErrFuture)
	})
}

func TestWatchPastCompactionIsRefused(t *testing.T) {
	cfg := storetest.Config(t, t.TempDir())
	s := storetest.Open(t, cfg)
	table := things(t, s)
	first := mustCreate(t, table, storetest.Named("ns", "a", "1"))
	for range 5 {
		mustUpdate(t, table, storetest.Named("ns", "a", "2"), 0)
	}
	now := mustSync(t, s)
	if err := s.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	t.Run("the log still serves it", func(t *testing.T) {
		watch(t, table, store.WatchOptions{After: first}).want("MODIFIED ns/a")
	})
	t.Run("a state is gone, though the log could make it", func(t *testing.T) {
		_, err := table.SnapshotAt(t.Context(), first)
		wantErr(t, err, store.ErrCompacted)
		if _, err := table.SnapshotAt(t.Context(), now); err != nil {
			t.Error(err)
		}
	})
	t.Run("after a restart it is gone", func(t *testing.T) {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s := storetest.Open(t, cfg)
		table := things(t, s)
		_, err := table.Watch(t.Context(), store.WatchOptions{After: first})
		wantErr(t, err, store.ErrCompacted)
		_, err = table.SnapshotAt(t.Context(), first)
		wantErr(t, err, store.ErrCompacted)
		watch(t, table, store.WatchOptions{After: now})
	})
}

func TestWatchBeyondTheLogIsServedFromHistoryOrRefused(t *testing.T) {
	cfg := storetest.Config(t, t.TempDir())
	cfg.LogEvents = 32
	s := storetest.Open(t, cfg)
	table := things(t, s)
	first := mustCreate(t, table, storetest.Named("ns", "a", "1"))
	var middle int64
	for i := range 60 {
		r := mustUpdate(t, table, storetest.Named("ns", "a", fmt.Sprint(i)), 0)
		if i == 34 {
			middle = r
		}
	}
	mustSync(t, s)
	r := watch(t, table, store.WatchOptions{After: middle})
	for range 25 {
		r.want("MODIFIED ns/a")
	}
	r.quiet(s)
	_, err := table.Watch(t.Context(), store.WatchOptions{After: first})
	wantErr(t, err, store.ErrCompacted)
}

func TestSlowWatcherIsCutOffAlone(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	slow := watch(t, table, store.WatchOptions{FromNow: true, Buffer: 4})
	quick := watch(t, table, store.WatchOptions{FromNow: true})
	for i := range 10 {
		mustCreate(t, table, storetest.Named("ns", fmt.Sprint(i), "x"))
	}
	for i := range 10 {
		quick.want(fmt.Sprintf("ADDED ns/%d", i))
	}
	_, _, err := slow.w.Next(t.Context())
	wantErr(t, err, store.ErrSlow)
}

func TestSelectorEnterAndLeave(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	red := func(r *store.Record) bool { return r.Labels["color"] == "red" }
	labelled := func(color, data string) storetest.Object {
		o := storetest.Named("ns", "x", data)
		o.Labels = map[string]string{"color": color}
		return o
	}
	r := watch(t, table, store.WatchOptions{FromNow: true, Match: red})
	mustCreate(t, table, labelled("blue", "1"))
	mustUpdate(t, table, labelled("red", "2"), 0)
	mustUpdate(t, table, labelled("red", "3"), 0)
	left := mustUpdate(t, table, labelled("blue", "4"), 0)
	mustUpdate(t, table, labelled("blue", "5"), 0)
	mustUpdate(t, table, labelled("red", "6"), 0)
	mustDelete(t, table, "ns/x")

	r.want("ADDED ns/x")
	r.want("MODIFIED ns/x")
	ev := r.want("DELETED ns/x")
	if storetest.Data(t, ev.Entry()) != "3" || ev.Entry().Revision() != left {
		t.Fatalf("an object that leaves is shown as it was: got %s at %d", storetest.Data(t, ev.Entry()), ev.Entry().Revision())
	}
	if got := ev.Entry().Record().Labels["color"]; got != "red" {
		t.Fatalf("its labels are those it had: %s", got)
	}
	r.want("ADDED ns/x")
	r.want("DELETED ns/x")
	r.quiet(s)
}

func TestIndexedDispatch(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	on := func(namespace, name, node string) storetest.Object {
		o := storetest.Named(namespace, name, "x")
		if node != "" {
			o.Fields = map[string]string{"node": node}
		}
		o.OwnerReferences = []metav1.OwnerReference{{UID: types.UID("owner-of-" + name)}}
		return o
	}
	var matched atomic.Int32
	count := func(*store.Record) bool { matched.Add(1); return true }
	n1 := watch(t, table, store.WatchOptions{FromNow: true, Index: "node", Value: "n1", Match: count})
	unbound := watch(t, table, store.WatchOptions{FromNow: true, Index: "node", Value: ""})
	inB := watch(t, table, store.WatchOptions{FromNow: true, Namespace: "b"})
	named := watch(t, table, store.WatchOptions{FromNow: true, Name: "x", Namespace: "a"})
	owned := watch(t, table, store.WatchOptions{FromNow: true, Index: store.OwnerIndex, Value: "owner-of-y"})

	mustCreate(t, table, on("a", "x", ""))
	mustUpdate(t, table, on("a", "x", "n1"), 0)
	mustCreate(t, table, on("b", "y", "n2"))
	mustUpdate(t, table, on("b", "y", "n1"), 0)
	mustCreate(t, table, on("b", "x", "n3"))
	mustUpdate(t, table, on("a", "x", "n2"), 0)

	n1.want("ADDED a/x")
	n1.want("ADDED b/y")
	n1.want("DELETED a/x")
	n1.quiet(s)
	unbound.want("ADDED a/x")
	unbound.want("DELETED a/x")
	unbound.quiet(s)
	inB.want("ADDED b/y")
	inB.want("MODIFIED b/y")
	inB.want("ADDED b/x")
	inB.quiet(s)
	named.want("ADDED a/x")
	named.want("MODIFIED a/x")
	named.want("MODIFIED a/x")
	named.quiet(s)
	owned.want("ADDED b/y")
	owned.want("MODIFIED b/y")
	owned.quiet(s)
	if got := matched.Load(); got > 4 {
		t.Errorf("the watcher of n1 was asked %d times: it sees others' events", got)
	}
	var keys []string
	for e := range table.Snapshot().ByIndex("node", "n1") {
		keys = append(keys, e.Key())
	}
	if !slices.Equal(keys, []string{"b/y"}) {
		t.Errorf("on n1: %v", keys)
	}
}

func TestInitialIsFollowedByEverythingAfterIt(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	const n = 200
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			mustCreate(t, table, storetest.Named("ns", fmt.Sprintf("%03d", i), "x"))
		}
		cancel()
	})
	for ctx.Err() == nil {
		w, err := table.Watch(t.Context(), store.WatchOptions{Initial: true, Namespace: "ns"})
		if err != nil {
			t.Fatal(err)
		}
		seq, revision := w.Initial()
		have := 0
		for e := range seq {
			if e.Revision() > revision {
				t.Fatalf("%s is newer than its snapshot", e.Key())
			}
			have++
		}
		if have < n {
			r := &reader{t: t, w: w}
			r.want(fmt.Sprintf("ADDED ns/%03d", have))
		}
		w.Stop()
	}
	wg.Wait()
}

func TestOneRevisionsEventsArriveTogether(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	table := things(t, s)
	w := watch(t, table, store.WatchOptions{FromNow: true}).w
	for i := range 5 {
		o := storetest.Named("ns", fmt.Sprint(i), "x")
		if _, err := table.Create(t.Context(), keyOf(o), o.Value(), store.WriteOptions{TTL: time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	var created, deleted []store.Event
	for len(created) < 5 {
		b, _, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		created = append(created, b...)
	}
	deleted, upTo, err := w.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	perRevision := map[int64]int{}
	for _, ev := range deleted {
		perRevision[ev.Revision()]++
	}
	if upTo < deleted[len(deleted)-1].Revision() {
		t.Errorf("upTo %d is before the last event", upTo)
	}
	if len(perRevision) != 1 || len(deleted) != 5 {
		t.Errorf("a shared lease's end arrived in pieces: %v", perRevision)
	}
}

func TestFramesAreEncodedOnce(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	const watchers = 20
	var readers []*reader
	for range watchers {
		readers = append(readers, watch(t, table, store.WatchOptions{FromNow: true}))
	}
	mustCreate(t, table, storetest.Named("ns", "x", "1"))
	var encoded atomic.Int32
	var wg sync.WaitGroup
	for _, r := range readers {
		wg.Go(func() {
			for format := range 2 {
				if len(r.pending) == 0 && r.last.Type == 0 {
					r.next()
				}
				b, err := r.last.Frame(format, func() ([]byte, error) {
					encoded.Add(1)
					return fmt.Appendf(nil, "frame %d", format), nil
				})
				if err != nil || string(b) != fmt.Sprintf("frame %d", format) {
					t.Errorf("got %q, %v", b, err)
				}
			}
		})
	}
	wg.Wait()
	if encoded.Load() != 2 {
		t.Errorf("encoded %d times, want once for each format", encoded.Load())
	}
}

func TestProgressWithoutEvents(t *testing.T) {
	s := storetest.New(t)
	table, other := things(t, s), addTable(t, s, "others")
	w := watch(t, table, store.WatchOptions{FromNow: true, ProgressEvery: 10 * time.Millisecond}).w
	revision := mustCreate(t, other, storetest.Named("ns", "x", "1"))
	for {
		batch, upTo, err := w.Next(t.Context())
		if err != nil || len(batch) > 0 {
			t.Fatalf("%v, %v", batch, err)
		}
		if upTo >= revision {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	quiet := watch(t, table, store.WatchOptions{FromNow: true}).w
	if _, _, err := quiet.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	quiet.Stop()
	_, _, err := quiet.Next(t.Context())
	wantErr(t, err, store.ErrClosed)
}

func TestWatchByAnUnknownIndexIsAnError(t *testing.T) {
	table := things(t, storetest.New(t))
	_, err := table.Watch(t.Context(), store.WatchOptions{FromNow: true, Index: "color", Value: "red"})
	if err == nil || !strings.Contains(err.Error(), `no index "color"`) {
		t.Fatalf("got %v", err)
	}
}
