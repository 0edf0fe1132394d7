package cgroups

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
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
	// SwapBytes is what lies in swap. Of SwapLimit and MemoryLimit, NoLimit is as much as there is.
	SwapBytes, SwapLimit, MemoryLimit uint64
	// CPUPressure, MemoryPressure and IOPressure have totals in the kernel's microseconds.
	CPUPressure, MemoryPressure, IOPressure stats.PSIStats
}

// NoLimit is the limit of a group that has none. Version 1 writes the greatest number of whole pages instead.
const NoLimit = math.MaxUint64

const greatestLimit = 1 << 62

// PodUsage returns what a pod uses.
func (t *Tree) PodUsage(pod *corev1.Pod) (Usage, error) { return t.usage(t.PodPath(pod)) }

// PodsUsage returns what all pods together use.
func (t *Tree) PodsUsage() (Usage, error) { return t.usage(t.pods()) }

// NodeUsage returns what the whole machine uses. The root group has no limits: the machine's swap is.
func (t *Tree) NodeUsage() (Usage, error) {
	u, err := t.usage("/")
	if err != nil {
		return u, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return u, fmt.Errorf("read the machine's swap: %w", err)
	}
	unit := uint64(info.Unit)
	u.SwapLimit = info.Totalswap * unit
	u.SwapBytes = u.SwapLimit - min(u.SwapLimit, info.Freeswap*unit)
	return u, nil
}

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
	u.MemoryLimit = limitIn(filepath.Join(memory, "memory.limit_in_bytes"))
	u.SwapBytes, u.SwapLimit = stat["total_swap"], limitIn(filepath.Join(memory, "memory.memsw.limit_in_bytes"))
	if u.SwapLimit != NoLimit {
		u.SwapLimit -= min(u.SwapLimit, u.MemoryLimit) // it's that of both together
	}
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

// limitIn reads a limit. What is no number is "max"; a kernel that has no such file doesn't limit it.
func limitIn(path string) uint64 {
	if limit, err := readNumber(path); err == nil && limit < greatestLimit {
		return limit
	}
	return NoLimit
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
	u.Processes, _ = readNumber(filepath.Join(dir, "pids.current"))        // the root has none
	u.SwapBytes, _ = readNumber(filepath.Join(dir, "memory.swap.current")) // nor has who has no swap
	u.MemoryLimit, u.SwapLimit = limitIn(filepath.Join(dir, "memory.max")), limitIn(filepath.Join(dir, "memory.swap.max"))
	u.CPUPressure = readPressure(filepath.Join(dir, "cpu.pressure"))
	u.MemoryPressure = readPressure(filepath.Join(dir, "memory.pressure"))
	u.IOPressure = readPressure(filepath.Join(dir, "io.pressure"))
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
