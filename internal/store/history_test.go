package store_test

import (
	"fmt"
	"slices"
	"testing"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

func TestSnapshotNeverChanges(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	for i := range 300 {
		mustCreate(t, table, storetest.Named("ns", fmt.Sprintf("%03d", i), "x"))
	}
	mustSync(t, s)
	before := table.Snapshot()
	want := contents(t, before)
	for i := range 300 {
		switch i % 3 {
		case 0:
			mustDelete(t, table, fmt.Sprintf("ns/%03d", i))
		case 1:
			mustUpdate(t, table, storetest.Named("ns", fmt.Sprintf("%03d", i), "y"), 0)
		}
	}
	mustSync(t, s)
	if got := contents(t, before); !slices.Equal(got, want) {
		t.Fatal("a snapshot has changed")
	}
	if n := table.Snapshot().Count(""); n != 200 {
		t.Fatalf("the newest has %d", n)
	}
}

func TestSnapshotRanges(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	for _, key := range []string{"a/1", "a/2", "a/3", "ab/1", "b/1"} {
		mustCreate(t, table, storetest.Named(key[:len(key)-2], key[len(key)-1:], "x"))
	}
	mustSync(t, s)
	snap := table.Snapshot()
	for _, tc := range []struct {
		name, prefix, after string
		want                []string
		countAfter          int
	}{
		{"everything", "", "", []string{"a/1", "a/2", "a/3", "ab/1", "b/1"}, 5},
		{"a namespace, not its namesakes", "a/", "", []string{"a/1", "a/2", "a/3"}, 3},
		{"after a key", "a/", "a/1", []string{"a/2", "a/3"}, 2},
		{"after a key that is gone", "a/", "a/15", []string{"a/2", "a/3"}, 2},
		{"after the last", "a/", "a/3", nil, 0},
		{"after, in all", "", "a/3", []string{"ab/1", "b/1"}, 2},
		{"a prefix without objects", "c/", "", nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			snap.Ascend(tc.prefix, tc.after, func(e *store.Entry) bool { got = append(got, e.Key()); return true })
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if n := snap.CountAfter(tc.prefix, tc.after); n != tc.countAfter {
				t.Errorf("%d are left, want %d", n, tc.countAfter)
			}
		})
	}
	if n := snap.Count("a/"); n != 3 {
		t.Errorf("a/ has %d", n)
	}
}

func TestSnapshotAtIsExact(t *testing.T) {
	cfg := storetest.Config(t, t.TempDir())
	cfg.LogEvents = 16
	s := storetest.Open(t, cfg)
	table := things(t, s)
	ctx := t.Context()
	type moment struct {
		revision int64
		want     []string
	}
	var moments []moment
	for i := range 40 {
		o := storetest.Named("ns", fmt.Sprint(i%7), fmt.Sprint(i))
		o.Fields = map[string]string{"node": fmt.Sprint(i % 3)}
		var r int64
		switch {
		case i < 7:
			r = mustCreate(t, table, o)
		case i%7 == 6 && i%2 == 1:
			r = mustDelete(t, table, "ns/6")
		case i%7 == 6:
			r = mustCreate(t, table, o)
		default:
			r = mustUpdate(t, table, o, 0)
		}
		mustSync(t, s)
		moments = append(moments, moment{r, contents(t, table.Snapshot())})
	}
	check := func(t *testing.T, table *store.Table) {
		t.Helper()
		for range 2 {
			for _, m := range moments {
				snap, err := table.SnapshotAt(ctx, m.revision)
				if err != nil {
					t.Fatal(err)
				}
				if got := contents(t, snap); !slices.Equal(got, m.want) || snap.Revision() != m.revision {
					t.Fatalf("at %d: got %v at %d, want %v", m.revision, got, snap.Revision(), m.want)
				}
				indexed := 0
				for n := range 3 {
					for range snap.ByIndex("node", fmt.Sprint(n)) {
						indexed++
					}
				}
				if indexed != len(m.want) {
					t.Fatalf("at %d the index has %d of %d", m.revision, indexed, len(m.want))
				}
			}
		}
	}
	t.Run("from the log and from etcd's history", func(t *testing.T) { check(t, table) })
	t.Run("a revision that is not there yet is refused", func(t *testing.T) {
		_, err := table.SnapshotAt(ctx, mustSync(t, s)+50)
		wantErr(t, err, store.ErrFuture)
	})
	t.Run("a quiet table is exact at others' revisions", func(t *testing.T) {
		quiet := addTable(t, s, "quiet")
		mustCreate(t, quiet, storetest.Named("ns", "x", "1"))
		later := mustUpdate(t, table, storetest.Named("ns", "0", "z"), 0)
		mustSync(t, s)
		snap, err := quiet.SnapshotAt(ctx, later)
		if err != nil || snap.Count("") != 1 || snap.Revision() != later {
			t.Fatalf("%d objects at %d, %v", snap.Count(""), snap.Revision(), err)
		}
	})
	t.Run("after a restart", func(t *testing.T) {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s := storetest.Open(t, cfg)
		check(t, things(t, s))
	})
}

func TestTablesAdvanceInOneOrder(t *testing.T) {
	s := storetest.New(t)
	a, b := addTable(t, s, "as"), addTable(t, s, "bs")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			mustCreate(t, a, storetest.Named("", fmt.Sprint(i), "x"))
			mustCreate(t, b, storetest.Named("", fmt.Sprint(i), "x"))
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		snaps := s.Snapshots(a, b)
		na, nb := snaps[0].Count(""), snaps[1].Count("")
		if na < nb || na > nb+1 {
			t.Fatalf("%d of a and %d of b cannot have been at once", na, nb)
		}
		if snaps[0].Revision() != snaps[1].Revision() {
			t.Fatalf("revisions %d and %d", snaps[0].Revision(), snaps[1].Revision())
		}
	}
}

func TestWaitForReturnsOnceEveryTableIsThere(t *testing.T) {
	s := storetest.New(t)
	a, b := addTable(t, s, "as"), addTable(t, s, "bs")
	for i := range 50 {
		mustCreate(t, a, storetest.Named("", fmt.Sprint(i), "x"))
		r := mustCreate(t, b, storetest.Named("", fmt.Sprint(i), "x"))
		if err := s.WaitFor(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if a.Snapshot().Count("") != i+1 || b.Snapshot().Count("") != i+1 || s.Revision() < r {
			t.Fatalf("a write is missing after its revision was reached")
		}
	}
}

func TestOldChangesAreForgottenButForTheLastOnes(t *testing.T) {
	s := storetest.New(t)
	busy, quiet := addTable(t, s, "busy"), addTable(t, s, "quiet")
	first := mustCreate(t, quiet, storetest.Named("ns", "x", "1"))
	second := mustUpdate(t, quiet, storetest.Named("ns", "x", "2"), 0)
	start := mustCreate(t, busy, storetest.Named("ns", "x", "0"))
	for i := range 600 {
		mustUpdate(t, busy, storetest.Named("ns", "x", fmt.Sprint(i)), 0)
	}
	now := mustSync(t, s)
	store.TrimBeforeForTest(s, now-300)
	if n := store.LogLenForTest(busy); n != 300 {
		t.Errorf("%d changes are left, want the 300 that are not old", n)
	}
	store.TrimBeforeForTest(s, now)
	if n := store.LogLenForTest(busy); n < 200 || n > 300 {
		t.Errorf("%d changes are left, want the last few hundred", n)
	}
	if n := store.LogLenForTest(quiet); n != 2 {
		t.Errorf("the quiet table has %d changes left, want both", n)
	}
	r := watch(t, quiet, store.WatchOptions{After: first})
	if ev := r.want("MODIFIED ns/x"); ev.Revision() != second {
		t.Errorf("got revision %d", ev.Revision())
	}
	r = watch(t, busy, store.WatchOptions{After: start})
	for range 600 {
		r.want("MODIFIED ns/x") // etcd still has what the log has not
	}
}
