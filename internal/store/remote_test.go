package store_test

import (
	"fmt"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

// outsideEtcd starts an etcd with a client port, as an operator would run it.
func outsideEtcd(t *testing.T) string {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(t.TempDir(), "etcd")
	cfg.LogLevel = "panic"
	client, err := url.Parse(freePeerURL(t))
	if err != nil {
		t.Fatal(err)
	}
	peer, err := url.Parse(freePeerURL(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 10, 100
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return client.Host
}

func TestOutsideEtcd(t *testing.T) {
	t.Parallel()
	cfg := storetest.Config(t, "")
	cfg.Endpoints = []string{outsideEtcd(t)}
	s, other := storetest.Open(t, cfg), storetest.Open(t, cfg)
	table := things(t, s)
	ctx := t.Context()
	var first int64
	for i := range 30 {
		r := mustCreate(t, table, storetest.Named("ns", fmt.Sprintf("%02d", i), "x"))
		if i == 0 {
			first = r
		}
	}

	t.Run("conditions hold", func(t *testing.T) {
		o := storetest.Named("ns", "00", "y")
		_, err := table.Create(ctx, "ns/00", o.Value(), store.WriteOptions{})
		wantErr(t, err, store.ErrExists)
		_, err = table.Update(ctx, "ns/00", o.Value(), first+1, store.WriteOptions{})
		wantErr(t, err, store.ErrConflict)
		_, err = table.Delete(ctx, "ns/none", 0)
		wantErr(t, err, store.ErrNotFound)
	})
	t.Run("another server sees the same", func(t *testing.T) {
		mirror := things(t, other)
		r := watch(t, mirror, store.WatchOptions{After: first})
		for i := 1; i < 30; i++ {
			r.want(fmt.Sprintf("ADDED ns/%02d", i))
		}
		mustDelete(t, table, "ns/05")
		r.want("DELETED ns/05")
		mustSync(t, other)
		if n := mirror.Snapshot().Count(""); n != 29 {
			t.Fatalf("%d objects", n)
		}
		snap, err := mirror.SnapshotAt(ctx, first)
		if err != nil || snap.Count("") != 1 {
			t.Fatalf("%d objects at first, %v", snap.Count(""), err)
		}
	})
	t.Run("leadership passes between servers", func(t *testing.T) {
		l, err := s.AcquireLease(ctx, leaderKey, "one", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		next := make(chan error)
		go func() {
			l, err := other.AcquireLease(ctx, leaderKey, "two", time.Minute)
			if err == nil {
				err = l.Release(ctx)
			}
			next <- err
		}()
		if err := l.Release(ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-next; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("compaction is taken in turns", func(t *testing.T) {
		var one, two store.CompactTurn
		for range 2 {
			if err := store.CompactTurnForTest(s, ctx, &one); err != nil {
				t.Fatal(err)
			}
			if err := store.CompactTurnForTest(other, ctx, &two); err != nil {
				t.Fatal(err)
			}
		}
		version, _, err := s.Get(ctx, "compact_rev_key")
		if err != nil || string(version) == "0" {
			t.Fatalf("nothing was compacted: %q, %v", version, err)
		}
		fresh := storetest.Open(t, cfg)
		for _, table := range []*store.Table{table, things(t, fresh)} {
			_, err = table.SnapshotAt(ctx, first)
			wantErr(t, err, store.ErrCompacted)
		}
	})
	t.Run("status tells of it", func(t *testing.T) {
		st, err := s.Status(ctx)
		if err != nil || st.Revision == 0 || len(st.Members) != 1 {
			t.Fatalf("%+v, %v", st, err)
		}
	})
}
