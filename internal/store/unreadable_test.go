package store_test

import (
	"errors"
	"testing"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

func TestWhatCannotBeReadIsKnownToBeThere(t *testing.T) {
	s := storetest.New(t)
	p := &plugin{}
	p.well.Store(true)
	secrets, err := s.AddTable(t.Context(), store.TableConfig{Prefix: "secrets", Kind: storetest.Kind{}, Transformer: p})
	if err != nil {
		t.Fatal(err)
	}
	created := mustCreate(t, secrets, storetest.Named("ns", "x", "1"))
	mustSync(t, s)
	watch := func(o store.WatchOptions) *store.Watch {
		t.Helper()
		w, err := secrets.Watch(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		return w
	}
	whole, other, lenient := watch(store.WatchOptions{Whole: true}), watch(store.WatchOptions{Whole: true, Namespace: "other"}), watch(store.WatchOptions{})
	p.well.Store(false)
	if _, err := secrets.Update(t.Context(), "ns/x", storetest.Named("ns", "x", "2").Value(), created, store.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	mustSync(t, s)

	now := secrets.Snapshot()
	hidden := now.Unreadable("ns/x")
	if hidden == nil || hidden.Error() != `unable to transform key "/registry/secrets/ns/x": the plugin is away` {
		t.Errorf("the object: %v", hidden)
	}
	if e, why := secrets.Get("ns/x"); e != nil || why != hidden {
		t.Errorf("%v is found, and %v", e, why)
	}
	if now.UnreadableIn("ns/", "") != hidden || now.UnreadableIn("other/", "") != nil || now.UnreadableIn("", "ns/x") != nil {
		t.Error("lists fail where the object is, and nowhere else")
	}
	if old, err := secrets.SnapshotAt(t.Context(), created); err != nil || old.UnreadableIn("", "") == nil {
		t.Errorf("a former state is read with the same key: %v", err)
	}
	var failure *store.UnreadableError
	if events, _, err := whole.Next(t.Context()); !errors.As(err, &failure) {
		t.Errorf("a whole watch ends: %v, %v", events, err)
	}
	if events, _, err := lenient.Next(t.Context()); err != nil || len(events) != 1 || events[0].Type != store.Deleted {
		t.Errorf("another sees it go: %v, %v", events, err)
	}
	if _, err := secrets.Watch(t.Context(), store.WatchOptions{Whole: true, Initial: true}); !errors.As(err, &failure) {
		t.Errorf("a whole watch begins: %v", err)
	}

	p.well.Store(true)
	mustCreate(t, secrets, storetest.Named("other", "y", "1"))
	mustSync(t, s)
	if events, _, err := other.Next(t.Context()); err != nil || len(events) != 1 {
		t.Errorf("a watch elsewhere goes on: %v, %v", events, err)
	}
	if err := s.Reread(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := secrets.Snapshot(); now.UnreadableIn("", "") != nil {
		t.Error("the key is back")
	}
	if _, err := secrets.Watch(t.Context(), store.WatchOptions{Whole: true, Initial: true}); err != nil {
		t.Errorf("a whole watch afterwards: %v", err)
	}
}
