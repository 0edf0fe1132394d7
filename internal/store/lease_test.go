package store_test

import (
	"context"
	"testing"
	"time"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

const leaderKey = "/clipper/leaders/controllers"

func TestLeadership(t *testing.T) {
	s := storetest.New(t)
	table := things(t, s)
	ctx := t.Context()
	first, err := s.AcquireLease(ctx, leaderKey, "server-1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	leading := store.WithFence(ctx, first.Fence())
	x := storetest.Named("ns", "x", "1")
	if _, err := table.Create(leading, "ns/x", x.Value(), store.WriteOptions{}); err != nil {
		t.Fatal(err)
	}

	t.Run("another waits until it is released", func(t *testing.T) {
		acquired := make(chan *store.Lease)
		go func() {
			l, err := s.AcquireLease(ctx, leaderKey, "server-2", time.Minute)
			if err != nil {
				t.Error(err)
			}
			acquired <- l
		}()
		select {
		case <-acquired:
			t.Fatal("two lead at once")
		case <-time.After(50 * time.Millisecond):
		}
		if err := first.Release(ctx); err != nil {
			t.Fatal(err)
		}
		<-first.Lost()
		second := <-acquired
		defer func() {
			if err := second.Release(ctx); err != nil {
				t.Error(err)
			}
		}()

		y := storetest.Named("ns", "y", "1")
		for name, write := range map[string]func(context.Context) error{
			"create": func(ctx context.Context) error {
				_, err := table.Create(ctx, "ns/y", y.Value(), store.WriteOptions{})
				return err
			},
			"create of what exists": func(ctx context.Context) error {
				_, err := table.Create(ctx, "ns/x", x.Value(), store.WriteOptions{})
				return err
			},
			"update": func(ctx context.Context) error {
				_, err := table.Update(ctx, "ns/x", x.Value(), 0, store.WriteOptions{})
				return err
			},
			"delete": func(ctx context.Context) error {
				_, err := table.Delete(ctx, "ns/x", 0)
				return err
			},
			"put": func(ctx context.Context) error {
				_, err := s.Put(ctx, "/clipper/some", nil, store.AnyRevision)
				return err
			},
		} {
			t.Run("the former leader's "+name+" is refused", func(t *testing.T) {
				wantErr(t, write(leading), store.ErrFenced)
			})
		}
		if _, err := table.Update(store.WithFence(ctx, second.Fence()), "ns/x", x.Value(), 0, store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a key left behind under the same name is taken over at once", func(t *testing.T) {
		abandoned, err := s.AcquireLease(ctx, leaderKey, "server-1", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.AcquireLease(ctx, leaderKey, "server-1", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if abandoned.Fence() == again.Fence() {
			t.Fatal("the old fence still holds")
		}
		if err := again.Release(ctx); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("waiting ends with its context", func(t *testing.T) {
		held, err := s.AcquireLease(ctx, leaderKey, "server-1", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		impatient, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, err = s.AcquireLease(impatient, leaderKey, "server-2", time.Minute)
		wantErr(t, err, context.DeadlineExceeded)
		if err := held.Release(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLeaseIsLostWhenEtcdForgetsIt(t *testing.T) {
	s := storetest.New(t)
	l, err := s.AcquireLease(t.Context(), leaderKey, "server-1", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), leaderKey); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	<-l.Lost()
}

func TestLeaseIsKept(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	l, err := s.AcquireLease(t.Context(), leaderKey, "server-1", 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Lost():
		t.Fatal("it was not renewed")
	case <-time.After(5 * time.Second):
	}
	if _, _, err := s.Get(t.Context(), leaderKey); err != nil {
		t.Fatal(err)
	}
}
