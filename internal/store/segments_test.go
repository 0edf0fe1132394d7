package store_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"clipper.dev/clipper/internal/store"
	"clipper.dev/clipper/internal/store/storetest"
)

// segmentFiles lists the log's segments by inode, with their names.
func segmentFiles(t *testing.T, dir string) map[uint64]string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "etcd", "member", "wal"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[uint64]string{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files[info.Sys().(*syscall.Stat_t).Ino] = e.Name()
		}
	}
	return files
}

func TestTheLogGoesOnInSegmentsThatWereFilledBefore(t *testing.T) {
	t.Parallel()
	cfg := storetest.Config(t, t.TempDir())
	s := storetest.Open(t, cfg)
	table := things(t, s)
	data := strings.Repeat("x", 256<<10)
	n := 0
	write := func() {
		t.Helper()
		n++
		o := storetest.Named("ns", strconv.Itoa(n), data)
		if _, err := table.Create(t.Context(), "ns/"+strconv.Itoa(n), o.Value(), store.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// Of the two that are ahead etcd makes only the first.
	ahead := map[uint64]bool{}
	eventually(t, "two segments are ahead", func() bool {
		write()
		clear(ahead)
		for inode, name := range segmentFiles(t, cfg.Dir) {
			if name == "0.tmp" || name == "1.tmp" {
				ahead[inode] = true
			}
		}
		return len(ahead) == 2
	})
	used := map[uint64]bool{}
	eventually(t, "the log has come to both", func() bool {
		write()
		for inode, name := range segmentFiles(t, cfg.Dir) {
			if ahead[inode] && strings.HasSuffix(name, ".wal") {
				used[inode] = true
			}
		}
		return len(used) == 2
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	table = things(t, storetest.Open(t, cfg))
	for i := 1; i <= n; i++ {
		if e, ok := table.Snapshot().Get("ns/" + strconv.Itoa(i)); !ok || storetest.Data(t, e) != data {
			t.Fatalf("object %d of %d is missing or damaged after a restart", i, n)
		}
	}
}
