package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

// smallDisk mounts a file system of its own for a test.
func smallDisk(t *testing.T, mebibytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("clipper-store-test", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mebibytes)); err != nil {
		t.Skipf("a file system of a given size cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// eventually tries until fn succeeds.
func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !fn() {
		select {
		case <-ctx.Done():
			t.Fatalf("it never came about that %s", what)
		case <-again.C:
		}
	}
}

// fill writes until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10} {
		block := make([]byte, size)
		for {
			if _, err := f.Write(block); err != nil {
				break
			}
		}
	}
}

func TestFullDiskRefusesWritesAndRecovers(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 400)
	cfg := storetest.Config(t, filepath.Join(dir, "data"))
	cfg.ReserveBytes = 32 << 20
	cfg.Logger = nil
	s := storetest.Open(t, cfg)
	table := things(t, s)
	write := func(name string) error {
		o := storetest.Named("ns", name, strings.Repeat("x", 2000))
		_, err := table.Create(t.Context(), "ns/"+name, o.Value(), store.WriteOptions{})
		return err
	}
	for i := range 20 {
		if err := write(fmt.Sprint("before", i)); err != nil {
			t.Fatal(err)
		}
	}
	reserve := filepath.Join(dir, "data", "reserve")
	if _, err := os.Stat(reserve); err != nil {
		t.Fatalf("nothing was set aside: %v", err)
	}

	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	n := 0
	eventually(t, "writes are refused", func() bool {
		n++
		return errors.Is(write(fmt.Sprint("full", n)), store.ErrNoSpace)
	})
	if st, err := s.Status(t.Context()); err != nil || !st.NoSpace {
		t.Fatalf("the status does not tell: %+v, %v", st, err)
	}
	mustDelete(t, table, "ns/before0") // makes room, so it may go on
	mustSync(t, s)
	if _, err := os.Stat(reserve); err == nil {
		t.Error("the reserve was not given up")
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "writes are accepted again", func() bool {
		err := write("after")
		if err != nil && !errors.Is(err, store.ErrNoSpace) {
			t.Fatal(err)
		}
		return err == nil
	})
	eventually(t, "a reserve is set aside again", func() bool {
		_, err := os.Stat(reserve)
		return err == nil
	})
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestQuotaRefusesWritesAndRecovers(t *testing.T) {
	t.Parallel()
	cfg := storetest.Config(t, t.TempDir())
	cfg.QuotaBytes = 24 << 20
	s := storetest.Open(t, cfg)
	table := things(t, s)
	big := strings.Repeat("x", 512<<10)
	var err error
	n := 0
	eventually(t, "writes are refused", func() bool {
		o := storetest.Named("ns", fmt.Sprint(n), big)
		if _, err = table.Create(t.Context(), keyOf(o), o.Value(), store.WriteOptions{}); err == nil {
			n++
		}
		return errors.Is(err, store.ErrNoSpace)
	})
	for i := range n {
		mustDelete(t, table, fmt.Sprintf("ns/%d", i))
	}
	if err := s.Compact(t.Context(), mustSync(t, s)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "writes are accepted again", func() bool {
		_, err := table.Create(t.Context(), "ns/new", storetest.Named("ns", "new", "x").Value(), store.WriteOptions{})
		return err == nil
	})
}

func TestFatalEtcdErrorStopsTheStoreAlone(t *testing.T) {
	dir := t.TempDir()
	cfg := storetest.Config(t, dir)
	ctx := t.Context()
	s, err := store.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	table := things(t, s)
	mustCreate(t, table, storetest.Named("ns", "x", "1"))
	mustSync(t, s)
	w, err := table.Watch(ctx, store.WatchOptions{FromNow: true})
	if err != nil {
		t.Fatal(err)
	}
	store.BreakForTest(s, errors.New("no space left on device"))
	<-s.Done()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("the reason is lost: %v", err)
	}
	_, _, err = w.Next(ctx)
	wantErr(t, err, store.ErrClosed)
	if _, ok := table.Snapshot().Get("ns/x"); !ok {
		t.Error("what was cached is gone")
	}
	wantErr(t, s.WaitFor(ctx, 1000), store.ErrClosed)
	_ = s.Close()
}

func TestDiskThatFillsBetweenLooksStopsTheStoreAtWorst(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 120)
	cfg := storetest.Config(t, filepath.Join(dir, "data"))
	ctx := t.Context()
	s, err := store.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	table := things(t, s)
	mustCreate(t, table, storetest.Named("ns", "x", "1"))
	mustSync(t, s)
	fill(t, filepath.Join(dir, "filler"))
	// Deletions and keys of the store's own are let through, and nothing is set aside for them here.
	for i := 0; s.Err() == nil && i < 3000; i++ {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		if _, err := s.AcquireLease(attempt, fmt.Sprint("/clipper/", i, strings.Repeat("x", 4096)), strings.Repeat("y", 65536), time.Minute); err != nil {
			t.Log(err)
		}
		cancel()
	}
	t.Log("the store:", s.Err())
	if _, ok := table.Snapshot().Get("ns/x"); !ok {
		t.Error("what was cached is gone")
	}
	t.Log("close:", s.Close())
}
