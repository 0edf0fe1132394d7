package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnmapPagesKeepsTheContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, []byte(strings.Repeat("clipper ", 1<<16)), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 8<<16, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(b); err != nil {
			t.Error(err)
		}
	}()
	if n := residentKiB(t, path); n < 500 {
		t.Fatalf("%d KiB are resident before", n)
	}
	if err := unmapPages(path); err != nil {
		t.Fatal(err)
	}
	if n := residentKiB(t, path); n != 0 {
		t.Errorf("%d KiB are resident after", n)
	}
	if got := string(b[len(b)-8:]); got != "clipper " {
		t.Errorf("the file reads %q", got)
	}
}

// residentKiB is how much of a mapped file is in this process's memory.
func residentKiB(t *testing.T, path string) int {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	_, after, found := strings.Cut(string(smaps), path+"\n")
	if !found {
		t.Fatalf("%s is not mapped", path)
	}
	for line := range strings.Lines(after) {
		if rest, ok := strings.CutPrefix(line, "Rss:"); ok {
			n := 0
			for _, c := range strings.TrimSpace(rest) {
				if c < '0' || c > '9' {
					break
				}
				n = n*10 + int(c-'0')
			}
			return n
		}
	}
	t.Fatal("no Rss")
	return 0
}
