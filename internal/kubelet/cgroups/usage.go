package cgroups

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Usage is what a group uses.
type Usage struct {
	CPUNanoseconds uint64
	MemoryBytes    uint64
	// WorkingSetBytes is memory without the page cache that could be dropped.
	WorkingSetBytes uint64
	RSSBytes        uint64
	PageFaults      uint64
	MajorPageFaults uint64
	Processes       uint64
}

// PodUsage returns what a pod uses.
func (t *Tree) PodUsage(pod *corev1.Pod) (Usage, error) { return t.usage(t.PodPath(pod)) }

// PodsUsage returns what all pods together use.
func (t *Tree) PodsUsage() (Usage, error) { return t.usage(t.pods()) }

// PodsMemoryLimit returns how much memory all pods together may use; 0 is no limit.
func (t *Tree) PodsMemoryLimit() uint64 {
	file := filepath.Join(t.of["memory"], t.pods(), "memory.limit_in_bytes")
	if t.v2 {
		file = filepath.Join(fsRoot, t.pods(), "memory.max")
	}
	// What is no number is "max"; version 1 writes the greatest that it can count.
	if limit, err := readNumber(file); err == nil && limit < 1<<62 {
		return limit
	}
	return 0
}

// NodeUsage returns what the whole machine uses.
func (t *Tree) NodeUsage() (Usage, error) { return t.usage("/") }

func (t *Tree) usage(path string) (Usage, error) {
	if t.v2 {
		return usageV2(filepath.Join(fsRoot, path))
	}
	return t.usageV1(path)
}

func (t *Tree) usageV1(path string) (u Usage, err error) {
	memory := filepath.Join(t.of["memory"], path)
	if u.MemoryBytes, err = readNumber(filepath.Join(memory, "memory.usage_in_bytes")); err != nil {
		return u, err
	}
	stat, err := readPairs(filepath.Join(memory, "memory.stat"))
	if err != nil {
		return u, err
	}
	u.WorkingSetBytes = u.MemoryBytes - min(u.MemoryBytes, stat["total_inactive_file"])
	u.RSSBytes = stat["total_rss"]
	u.PageFaults, u.MajorPageFaults = stat["total_pgfault"], stat["total_pgmajfault"]
	if mount := t.of["cpuacct"]; mount != "" {
		if u.CPUNanoseconds, err = readNumber(filepath.Join(mount, path, "cpuacct.usage")); err != nil {
			// The runtime makes this hierarchy's group with the first container.
			u.CPUNanoseconds = 0
		}
	}
	if mount := t.of["pids"]; mount != "" && path != "/" {
		u.Processes, _ = readNumber(filepath.Join(mount, path, "pids.current")) // absent where nothing counts
	}
	return u, nil
}

func usageV2(dir string) (u Usage, err error) {
	cpu, err := readPairs(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return u, err
	}
	u.CPUNanoseconds = cpu["usage_usec"] * 1000
	stat, err := readPairs(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return u, err
	}
	u.RSSBytes = stat["anon"]
	u.PageFaults, u.MajorPageFaults = stat["pgfault"], stat["pgmajfault"]
	if u.MemoryBytes, err = readNumber(filepath.Join(dir, "memory.current")); err != nil {
		// The root group has no such file. It counts what version 1 counts there.
		u.MemoryBytes = stat["anon"] + stat["file"]
	}
	u.WorkingSetBytes = u.MemoryBytes - min(u.MemoryBytes, stat["inactive_file"])
	u.Processes, _ = readNumber(filepath.Join(dir, "pids.current")) // the root has none
	return u, nil
}

func readNumber(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read usage: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read usage from %s: %w", path, err)
	}
	return n, nil
}

func readPairs(path string) (map[string]uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read usage: %w", err)
	}
	out := map[string]uint64{}
	for _, line := range strings.Split(string(data), "\n") {
		name, value, ok := strings.Cut(line, " ")
		if n, err := strconv.ParseUint(value, 10, 64); ok && err == nil {
			out[name] = n
		}
	}
	return out, nil
}
