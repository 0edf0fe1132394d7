package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/container"
)

const cgroupRoot = "/sys/fs/cgroup"

// reading is what a control group tells about itself.
type reading struct {
	at                                              time.Time
	cpuNanos, usage, limit, inactiveFile, rss, pids uint64
	pageFaults, majorFaults, swapUsage, swapLimit   uint64
	cpuPressure, memoryPressure, ioPressure         *runtimeapi.PsiStats
}

// readCgroup reads a control group in either version; what cannot be read is zero.
func readCgroup(path string) *reading {
	r := &reading{at: time.Now()}
	if container.UnifiedCgroups() {
		r.readUnified(filepath.Join(cgroupRoot, path))
	} else {
		r.readLegacy(path)
	}
	return r
}

func (r *reading) readUnified(dir string) {
	cpu := readTable(filepath.Join(dir, "cpu.stat"))
	r.cpuNanos = cpu["usage_usec"] * 1000
	memory := readTable(filepath.Join(dir, "memory.stat"))
	r.usage = readNumber(filepath.Join(dir, "memory.current"))
	r.limit = readNumber(filepath.Join(dir, "memory.max"))
	r.inactiveFile, r.rss = memory["inactive_file"], memory["anon"]
	r.pageFaults, r.majorFaults = memory["pgfault"], memory["pgmajfault"]
	r.pids = readNumber(filepath.Join(dir, "pids.current"))
	r.swapUsage = readNumber(filepath.Join(dir, "memory.swap.current"))
	r.swapLimit = readNumber(filepath.Join(dir, "memory.swap.max"))
	r.cpuPressure = readPressure(filepath.Join(dir, "cpu.pressure"))
	r.memoryPressure = readPressure(filepath.Join(dir, "memory.pressure"))
	r.ioPressure = readPressure(filepath.Join(dir, "io.pressure"))
}

func (r *reading) readLegacy(path string) {
	in := func(controller, file string) string { return filepath.Join(cgroupRoot, controller, path, file) }
	r.cpuNanos = readNumber(in("cpuacct", "cpuacct.usage"))
	memory := readTable(in("memory", "memory.stat"))
	r.usage = readNumber(in("memory", "memory.usage_in_bytes"))
	r.limit = readNumber(in("memory", "memory.limit_in_bytes"))
	r.inactiveFile, r.rss = memory["total_inactive_file"], memory["total_rss"]
	r.pageFaults, r.majorFaults = memory["total_pgfault"], memory["total_pgmajfault"]
	r.pids = readNumber(in("pids", "pids.current"))
	if both := readNumber(in("memory", "memory.memsw.usage_in_bytes")); both > r.usage {
		r.swapUsage = both - r.usage
	}
	if both := readNumber(in("memory", "memory.memsw.limit_in_bytes")); both > r.limit {
		r.swapLimit = both - r.limit
	}
}

func (r *reading) cpu(rate uint64) *runtimeapi.CpuUsage {
	return &runtimeapi.CpuUsage{
		Timestamp: r.at.UnixNano(), UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: r.cpuNanos},
		UsageNanoCores: &runtimeapi.UInt64Value{Value: rate}, Psi: r.cpuPressure,
	}
}

// unlimited is beyond any machine's memory; the first version of cgroups writes "no limit" as a number like it.
const unlimited = 1 << 60

func (r *reading) memory() *runtimeapi.MemoryUsage {
	working := r.usage - min(r.usage, r.inactiveFile)
	usage := &runtimeapi.MemoryUsage{
		Timestamp: r.at.UnixNano(), WorkingSetBytes: &runtimeapi.UInt64Value{Value: working},
		UsageBytes: &runtimeapi.UInt64Value{Value: r.usage}, RssBytes: &runtimeapi.UInt64Value{Value: r.rss},
		PageFaults: &runtimeapi.UInt64Value{Value: r.pageFaults}, MajorPageFaults: &runtimeapi.UInt64Value{Value: r.majorFaults},
		Psi: r.memoryPressure,
	}
	if r.limit > 0 && r.limit < unlimited {
		usage.AvailableBytes = &runtimeapi.UInt64Value{Value: r.limit - min(r.limit, working)}
	}
	return usage
}

func (r *reading) swap() *runtimeapi.SwapUsage {
	swap := &runtimeapi.SwapUsage{
		Timestamp: r.at.UnixNano(), SwapUsageBytes: &runtimeapi.UInt64Value{Value: r.swapUsage},
	}
	if r.swapLimit < unlimited {
		swap.SwapAvailableBytes = &runtimeapi.UInt64Value{Value: r.swapLimit - min(r.swapLimit, r.swapUsage)}
	}
	return swap
}

func (r *reading) io() *runtimeapi.IoUsage {
	return &runtimeapi.IoUsage{Timestamp: r.at.UnixNano(), Psi: r.ioPressure}
}

// readNumber reads a file of one number; "max" is the greatest.
func readNumber(path string) uint64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	text := strings.TrimSpace(string(data))
	if text == "max" {
		return ^uint64(0)
	}
	value, _ := strconv.ParseUint(text, 10, 64)
	return value
}

// readTable reads a file of names and numbers.
func readTable(path string) map[string]uint64 {
	table := map[string]uint64{}
	data, err := os.ReadFile(path)
	if err != nil {
		return table
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		table[name], _ = strconv.ParseUint(value, 10, 64)
	}
	return table
}

// readPressure reads how long processes waited; nil where the kernel does not tell.
func readPressure(path string) *runtimeapi.PsiStats {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	stats := &runtimeapi.PsiStats{}
	for line := range strings.Lines(string(data)) {
		var kind string
		var micros uint64
		psi := &runtimeapi.PsiData{}
		if n, _ := fmt.Sscanf(line, "%s avg10=%f avg60=%f avg300=%f total=%d", &kind, &psi.Avg10, &psi.Avg60, &psi.Avg300, &micros); n != 5 {
			continue
		}
		psi.Total = micros // as the kernel counts, and as other runtimes tell it
		if kind == "full" {
			stats.Full = psi
		} else {
			stats.Some = psi
		}
	}
	return stats
}
