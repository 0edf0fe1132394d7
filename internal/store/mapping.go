package store

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unmapPages takes the pages of a mapped file out of this process's memory. They stay in the kernel's cache, which gives
// them up when it needs the room, and come back when they are read. etcd maps its whole database at once, and compaction
// reads all of it; but since the cache serves what is read, it is hardly ever looked at.
func unmapPages(path string) error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("read the memory map: %w", err)
	}
	for line := range strings.Lines(string(maps)) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasSuffix(line, " "+path) {
			continue
		}
		start, end, err := addresses(line)
		if err != nil {
			return err
		}
		// The mapping is shared, file-backed and read-only: letting go of its pages changes no content.
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
		if errno != 0 {
			return fmt.Errorf("let go of the pages of %s: %w", path, errno)
		}
	}
	return nil
}

// addresses reads the range that a line of the memory map begins with.
func addresses(line string) (start, end uintptr, err error) {
	span, rest, _ := strings.Cut(line, " ")
	if !strings.HasPrefix(rest, "r--s ") {
		return 0, 0, fmt.Errorf("the mapping %q is not a shared read-only one", line)
	}
	from, to, _ := strings.Cut(span, "-")
	a, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory map: %w", err)
	}
	b, err := strconv.ParseUint(to, 16, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory map: %w", err)
	}
	return uintptr(a), uintptr(b), nil
}
