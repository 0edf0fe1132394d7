package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

// plugin decrypts only while it is well.
type plugin struct {
	rot13
	well atomic.Bool
}

func (p *plugin) FromStorage(ctx context.Context, key string, data []byte) ([]byte, bool, error) {
	if !p.well.Load() {
		return nil, false, errors.New("the plugin is away")
	}
	return p.rot13.FromStorage(ctx, key, data)
}

func TestWhatCouldNotBeReadIsReadAgain(t *testing.T) {
	s := storetest.New(t)
	p := &plugin{}
	secrets, err := s.AddTable(t.Context(), store.TableConfig{Prefix: "secrets", Kind: storetest.Kind{}, Transformer: p})
	if err != nil {
		t.Fatal(err)
	}
	plain := things(t, s)
	mustCreate(t, plain, storetest.Named("ns", "x", "1"))
	mustCreate(t, secrets, storetest.Named("ns", "x", "hidden"))
	mustSync(t, s)
	if got := secrets.Unreadable(); len(got) != 1 {
		t.Fatalf("unreadable: %v", got)
	}
	w, err := secrets.Watch(t.Context(), store.WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	p.well.Store(true)
	if err := s.Reread(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e, ok := secrets.Snapshot().Get("ns/x"); !ok || storetest.Data(t, e) != "hidden" {
		t.Errorf("got %v", e)
	}
	if got := secrets.Unreadable(); len(got) != 0 {
		t.Errorf("unreadable: %v", got)
	}
	mustCreate(t, secrets, storetest.Named("ns", "y", "later"))
	mustSync(t, s)
	if _, ok := secrets.Snapshot().Get("ns/y"); !ok {
		t.Error("later changes do not arrive")
	}
}
