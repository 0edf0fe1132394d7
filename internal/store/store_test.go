package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

// things adds a table named "things", with an index by the field "node".
func things(t testing.TB, s *store.Store) *store.Table {
	t.Helper()
	return addTable(t, s, "things")
}

func addTable(t testing.TB, s *store.Store, prefix string) *store.Table {
	t.Helper()
	table, err := s.AddTable(t.Context(), store.TableConfig{Prefix: prefix, Kind: storetest.Kind{}, Indexes: []string{"node"}})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func mustCreate(t testing.TB, table *store.Table, o storetest.Object) int64 {
	t.Helper()
	r, err := table.Create(t.Context(), keyOf(o), o.Value(), store.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustUpdate(t testing.TB, table *store.Table, o storetest.Object, ifRevision int64) int64 {
	t.Helper()
	r, err := table.Update(t.Context(), keyOf(o), o.Value(), ifRevision, store.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustDelete(t testing.TB, table *store.Table, key string) int64 {
	t.Helper()
	r, err := table.Delete(t.Context(), key, 0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func keyOf(o storetest.Object) string {
	if o.Namespace == "" {
		return o.Name
	}
	return o.Namespace + "/" + o.Name
}

func mustSync(t testing.TB, s *store.Store) int64 {
	t.Helper()
	r, err := s.Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// contents renders a snapshot as key=data@revision.
func contents(t testing.TB, s store.Snapshot) []string {
	t.Helper()
	var out []string
	s.Ascend("", "", func(e *store.Entry) bool {
		out = append(out, fmt.Sprintf("%s=%s@%d", e.Key(), storetest.Data(t, e), e.Revision()))
		return true
	})
	return out
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func TestWrites(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	ctx := t.Context()
	o := storetest.Named("a", "x", "one")

	created := mustCreate(t, table, o)

	t.Run("create fails when the object exists", func(t *testing.T) {
		_, err := table.Create(ctx, "a/x", o.Value(), store.WriteOptions{})
		wantErr(t, err, store.ErrExists)
	})
	t.Run("update fails with another revision", func(t *testing.T) {
		_, err := table.Update(ctx, "a/x", o.Value(), created+100, store.WriteOptions{})
		wantErr(t, err, store.ErrConflict)
	})
	t.Run("update and delete fail when there is nothing", func(t *testing.T) {
		_, err := table.Update(ctx, "a/none", o.Value(), 0, store.WriteOptions{})
		wantErr(t, err, store.ErrNotFound)
		_, err = table.Delete(ctx, "a/none", 5)
		wantErr(t, err, store.ErrNotFound)
	})
	o.Data = "two"
	updated := mustUpdate(t, table, o, created)
	t.Run("an outdated revision conflicts, known to the cache or not", func(t *testing.T) {
		_, err := table.Update(ctx, "a/x", o.Value(), created, store.WriteOptions{})
		wantErr(t, err, store.ErrConflict)
		mustSync(t, s)
		_, err = table.Update(ctx, "a/x", o.Value(), created, store.WriteOptions{})
		wantErr(t, err, store.ErrConflict)
		_, err = table.Delete(ctx, "a/x", created)
		wantErr(t, err, store.ErrConflict)
	})
	t.Run("a synced read sees the last write", func(t *testing.T) {
		mustSync(t, s)
		e, ok := table.Snapshot().Get("a/x")
		if !ok || e.Revision() != updated || storetest.Data(t, e) != "two" {
			t.Fatalf("got %+v", e)
		}
		obj, err := e.Object()
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := e.Object(); again != obj {
			t.Error("an object in use was decoded twice")
		}
	})
	t.Run("delete removes", func(t *testing.T) {
		if _, err := table.Delete(ctx, "a/x", updated); err != nil {
			t.Fatal(err)
		}
		mustSync(t, s)
		if n := table.Snapshot().Count(""); n != 0 {
			t.Fatalf("%d objects are left", n)
		}
	})
}

func TestConcurrentWritersLoseNothing(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	mustCreate(t, table, storetest.Named("", "counter", "0"))
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := increment(t.Context(), s, table); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mustSync(t, s)
	e, _ := table.Snapshot().Get("counter")
	if got := storetest.Data(t, e); got != fmt.Sprint(writers*each) {
		t.Fatalf("the counter says %s, want %d", got, writers*each)
	}
}

func increment(ctx context.Context, s *store.Store, table *store.Table) error {
	for {
		if _, err := s.Sync(ctx); err != nil {
			return err
		}
		e, _ := table.Snapshot().Get("counter")
		var n int
		obj, err := e.Object()
		if err != nil {
			return err
		}
		if _, err := fmt.Sscan(dataOf(obj), &n); err != nil {
			return err
		}
		o := storetest.Named("", "counter", fmt.Sprint(n+1))
		_, err = table.Update(ctx, "counter", o.Value(), e.Revision(), store.WriteOptions{})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func TestTables(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	pods := addTable(t, s, "pods")
	t.Run("a second table with the same prefix is refused", func(t *testing.T) {
		_, err := s.AddTable(ctx, store.TableConfig{Prefix: "pods", Kind: storetest.Kind{}})
		wantErr(t, err, store.ErrExists)
	})
	t.Run("nested prefixes do not mix", func(t *testing.T) {
		specs, endpoints := addTable(t, s, "services/specs"), addTable(t, s, "services/endpoints")
		mustCreate(t, specs, storetest.Named("ns", "a", "1"))
		mustCreate(t, endpoints, storetest.Named("ns", "a", "2"))
		mustSync(t, s)
		if got := contents(t, specs.Snapshot()); len(got) != 1 {
			t.Fatalf("specs: %v", got)
		}
		if got := pods.Snapshot().Count(""); got != 0 {
			t.Fatalf("pods: %d", got)
		}
	})
	t.Run("a late table holds what was written before", func(t *testing.T) {
		for i := range 3 {
			o := storetest.Named("ns", fmt.Sprint(i), "x")
			if _, err := s.Put(ctx, "/registry/late/ns/"+o.Name, o.Value(), 0); err != nil {
				t.Fatal(err)
			}
		}
		late := addTable(t, s, "late")
		if n := late.Snapshot().Count("ns/"); n != 3 {
			t.Fatalf("%d objects", n)
		}
	})
	t.Run("a removed table ends its watches and may be added again", func(t *testing.T) {
		w, err := pods.Watch(ctx, store.WatchOptions{FromNow: true})
		if err != nil {
			t.Fatal(err)
		}
		s.RemoveTable("pods")
		_, _, err = w.Next(ctx)
		wantErr(t, err, store.ErrClosed)
		addTable(t, s, "pods")
	})
}

func TestTableLoadedAmidWritesMissesNone(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	const n = 400
	var wg sync.WaitGroup
	half := make(chan struct{})
	wg.Go(func() {
		for i := range n {
			o := storetest.Named("ns", fmt.Sprintf("%04d", i), "x")
			if _, err := s.Put(ctx, "/registry/things/ns/"+o.Name, o.Value(), 0); err != nil {
				t.Error(err)
			}
			if i == n/4 {
				close(half)
			}
		}
	})
	<-half
	table := things(t, s)
	wg.Wait()
	mustSync(t, s)
	if got := table.Snapshot().Count(""); got != n {
		t.Fatalf("%d objects, want %d", got, n)
	}
}

func TestRestartKeepsObjectsAndRevision(t *testing.T) {
	cfg := storetest.Config(t, t.TempDir())
	s := storetest.Open(t, cfg)
	table := things(t, s)
	var last int64
	for i := range 20 {
		last = mustCreate(t, table, storetest.Named("ns", fmt.Sprint(i), "x"))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, cfg)
	table = things(t, s)
	if got := table.Snapshot(); got.Count("") != 20 || got.Revision() < last {
		t.Fatalf("%d objects at %d, want 20 at %d", got.Count(""), got.Revision(), last)
	}
}

func TestObjectsExpire(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	table := things(t, s)
	w, err := table.Watch(t.Context(), store.WatchOptions{FromNow: true})
	if err != nil {
		t.Fatal(err)
	}
	o := storetest.Named("ns", "brief", "x")
	if _, err := table.Create(t.Context(), "ns/brief", o.Value(), store.WriteOptions{TTL: time.Second}); err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t, w: w}
	r.want("ADDED ns/brief")
	r.want("DELETED ns/brief")
}

type rot13 struct{}

func (rot13) FromStorage(_ context.Context, key string, data []byte) ([]byte, bool, error) {
	if len(data) == 0 || data[0] != '!' {
		return nil, false, errors.New("not encrypted")
	}
	return flip(data[1:]), false, nil
}

func (rot13) ToStorage(_ context.Context, key string, data []byte) ([]byte, error) {
	return append([]byte("!"), flip(data)...), nil
}

func flip(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0x55
	}
	return out
}

func TestTransformerEncryptsAtRest(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	secrets, err := s.AddTable(ctx, store.TableConfig{Prefix: "secrets", Kind: storetest.Kind{}, Transformer: rot13{}})
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, secrets, storetest.Named("ns", "x", "hidden"))
	mustSync(t, s)
	e, ok := secrets.Snapshot().Get("ns/x")
	if !ok || storetest.Data(t, e) != "hidden" {
		t.Fatalf("got %v", e)
	}
	value, _, err := s.Get(ctx, "/registry/secrets/ns/x")
	if err != nil || value[0] != '!' {
		t.Fatalf("etcd holds %q, %v", value, err)
	}
	t.Run("a value that cannot be read is reported and can be deleted", func(t *testing.T) {
		if _, err := s.Put(ctx, "/registry/secrets/ns/bad", []byte("junk"), 0); err != nil {
			t.Fatal(err)
		}
		mustSync(t, s)
		if got := secrets.Unreadable(); len(got) != 1 || got["ns/bad"] == 0 {
			t.Fatalf("unreadable: %v", got)
		}
		mustDelete(t, secrets, "ns/bad")
		mustSync(t, s)
		if got := secrets.Unreadable(); len(got) != 0 {
			t.Fatalf("unreadable: %v", got)
		}
	})
}

func TestReplaceKindMakesBytesAnew(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	ctx := t.Context()
	first := mustCreate(t, table, storetest.Named("ns", "x", "1"))
	w, err := table.Watch(ctx, store.WatchOptions{After: first})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ReplaceKind(ctx, "things", storetest.Kind{Note: "new"}); err != nil {
		t.Fatal(err)
	}
	e, _ := table.Snapshot().Get("ns/x")
	obj, err := e.Object()
	if err != nil || noteOf(obj) != "new" || e.Revision() != first {
		t.Fatalf("got %v at %d, %v", obj, e.Revision(), err)
	}
	mustUpdate(t, table, storetest.Named("ns", "x", "2"), first)
	r := &reader{t: t, w: w}
	r.want("MODIFIED ns/x")
	again, err := table.Watch(ctx, store.WatchOptions{After: first - 1})
	if err != nil {
		t.Fatal(err)
	}
	r = &reader{t: t, w: again}
	r.want("ADDED ns/x")
	if obj, _ := r.last.Entry().Object(); noteOf(obj) != "new" {
		t.Fatalf("history is of the old kind: %v", obj)
	}
	r.want("MODIFIED ns/x")
}

func TestRawKeys(t *testing.T) {
	s := storetest.New(t)
	ctx := t.Context()
	_, _, err := s.Get(ctx, "/registry/ranges/serviceips")
	wantErr(t, err, store.ErrNotFound)
	r1, err := s.Put(ctx, "/registry/ranges/serviceips", []byte("a"), 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(ctx, "/registry/ranges/serviceips", []byte("b"), 0)
	wantErr(t, err, store.ErrExists)
	_, err = s.Put(ctx, "/registry/ranges/serviceips", []byte("b"), r1+1)
	wantErr(t, err, store.ErrConflict)
	r2, err := s.Put(ctx, "/registry/ranges/serviceips", []byte("b"), store.AnyRevision)
	if err != nil {
		t.Fatal(err)
	}
	if v, r, err := s.Get(ctx, "/registry/ranges/serviceips"); err != nil || string(v) != "b" || r != r2 {
		t.Fatalf("got %q at %d, %v", v, r, err)
	}
	_, err = s.Remove(ctx, "/registry/ranges/serviceips", r1)
	wantErr(t, err, store.ErrConflict)
	if _, err := s.Remove(ctx, "/registry/ranges/serviceips", r2); err != nil {
		t.Fatal(err)
	}
}

func TestOneObjectIsFoundAsInASnapshot(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	table := things(t, s)
	revision := int64(0)
	for _, data := range []string{"one", "two", ""} {
		o := storetest.Named("ns", "a", data)
		var err error
		switch {
		case revision == 0:
			revision, err = table.Create(t.Context(), "ns/a", o.Value(), store.WriteOptions{})
		case data == "":
			revision, err = table.Delete(t.Context(), "ns/a", revision)
		default:
			revision, err = table.Update(t.Context(), "ns/a", o.Value(), revision, store.WriteOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WaitFor(t.Context(), revision); err != nil {
			t.Fatal(err)
		}
		for _, before := range []string{"before there is a snapshot", "when there is one"} {
			e, hidden := table.Get("ns/a")
			if hidden != nil || (e == nil) != (data == "") || e != nil && storetest.Data(t, e) != data {
				t.Errorf("%s: %v is found where %q was written, %v", before, e, data, hidden)
			}
			if want, _ := table.Snapshot().Get("ns/a"); e != want {
				t.Errorf("%s: a snapshot has %v, not %v", before, want, e)
			}
		}
	}
}
