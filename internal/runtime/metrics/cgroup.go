package metrics

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// ticks is how many units of the first version's CPU times make a second.
const ticks = 100

// Cgroup reads the control group of a container, in either version. What the kernel does not tell is zero.
type Cgroup struct {
	Path    string // below the root of every hierarchy
	Unified bool
	// Disk is the device on which the container's files lie, as "8:1", if known. The kernel names devices that were used; this one is told of in any case.
	Disk string
}

func (c Cgroup) file(controller, name string) string {
	if c.Unified {
		return filepath.Join(cgroupRoot, c.Path, name)
	}
	return filepath.Join(cgroupRoot, controller, c.Path, name)
}

func (c Cgroup) text(controller, name string) string {
	data, _ := os.ReadFile(c.file(controller, name)) // it may have ended, or the kernel lacks the file
	return strings.TrimSpace(string(data))
}

func (c Cgroup) number(controller, name string) uint64 {
	value, _ := strconv.ParseUint(c.text(controller, name), 10, 64) // "max" is no bound: zero
	return value
}

func (c Cgroup) table(controller, name string) map[string]uint64 {
	table := map[string]uint64{}
	for line := range strings.Lines(c.text(controller, name)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		table[key], _ = strconv.ParseUint(value, 10, 64)
	}
	return table
}

// AddCgroup tells what a container uses of CPU, memory, devices and processes.
func (s *Set) AddCgroup(c Cgroup) {
	if c.Unified {
		s.addUnifiedCPU(c)
		s.addUnifiedMemory(c)
	} else {
		s.addLegacyCPU(c)
		s.addLegacyMemory(c)
	}
	s.addIO(c)
	s.addProcesses(c)
}

func (s *Set) addUnifiedCPU(c Cgroup) {
	const micros = uint64(time.Second / time.Microsecond)
	cpu := c.table("", "cpu.stat")
	s.add("container_cpu_usage_seconds_total", cpu["usage_usec"]/micros)
	s.add("container_cpu_user_seconds_total", cpu["user_usec"]/micros)
	s.add("container_cpu_system_seconds_total", cpu["system_usec"]/micros)
	s.add("container_cpu_cfs_periods_total", cpu["nr_periods"])
	s.add("container_cpu_cfs_throttled_periods_total", cpu["nr_throttled"])
	s.add("container_cpu_cfs_throttled_seconds_total", cpu["throttled_usec"]/micros)
	s.add("container_cpu_cfs_burst_periods_total", cpu["nr_bursts"])
	s.add("container_cpu_cfs_burst_seconds_total", cpu["burst_usec"]/micros)
}

func (s *Set) addLegacyCPU(c Cgroup) {
	times, quota := c.table("cpuacct", "cpuacct.stat"), c.table("cpu", "cpu.stat")
	s.add("container_cpu_usage_seconds_total", c.number("cpuacct", "cpuacct.usage")/uint64(time.Second))
	s.add("container_cpu_user_seconds_total", times["user"]/ticks)
	s.add("container_cpu_system_seconds_total", times["system"]/ticks)
	s.add("container_cpu_cfs_periods_total", quota["nr_periods"])
	s.add("container_cpu_cfs_throttled_periods_total", quota["nr_throttled"])
	s.add("container_cpu_cfs_throttled_seconds_total", quota["throttled_time"]/uint64(time.Second))
	s.add("container_cpu_cfs_burst_periods_total", quota["nr_bursts"])
	s.add("container_cpu_cfs_burst_seconds_total", quota["burst_time"]/uint64(time.Second))
}

func (s *Set) addUnifiedMemory(c Cgroup) {
	stat := c.table("", "memory.stat")
	kernel, ok := stat["kernel"]
	if !ok { // before Linux 5.18
		kernel = stat["kernel_stack"] + stat["pagetables"] + stat["slab"] + stat["sock"]
	}
	s.addMemory(memory{
		usage: c.number("", "memory.current"), peak: c.number("", "memory.peak"), rss: stat["anon"], cache: stat["file"], kernel: kernel,
		mapped: stat["file_mapped"], swap: c.number("", "memory.swap.current"), active: stat["active_file"], inactive: stat["inactive_file"],
		faults: stat["pgfault"], majorFaults: stat["pgmajfault"], kills: c.table("", "memory.events")["oom_kill"],
	})
}

func (s *Set) addLegacyMemory(c Cgroup) {
	stat := c.table("memory", "memory.stat")
	s.addMemory(memory{
		usage: c.number("memory", "memory.usage_in_bytes"), peak: c.number("memory", "memory.max_usage_in_bytes"),
		rss: stat["total_rss"], cache: stat["total_cache"], kernel: c.number("memory", "memory.kmem.usage_in_bytes"),
		mapped: stat["total_mapped_file"], swap: stat["total_swap"], active: stat["total_active_file"], inactive: stat["total_inactive_file"],
		faults: stat["total_pgfault"], majorFaults: stat["total_pgmajfault"], failures: c.number("memory", "memory.failcnt"),
		kills: c.table("memory", "memory.oom_control")["oom_kill"],
	})
}

type memory struct {
	usage, peak, rss, cache, kernel, mapped, swap, active, inactive uint64
	faults, majorFaults, failures, kills                            uint64
}

func (s *Set) addMemory(m memory) {
	s.add("container_memory_usage_bytes", m.usage)
	s.add("container_memory_max_usage_bytes", m.peak)
	s.add("container_memory_working_set_bytes", m.usage-min(m.usage, m.inactive))
	s.add("container_memory_rss", m.rss)
	s.add("container_memory_cache", m.cache)
	s.add("container_memory_kernel_usage", m.kernel)
	s.add("container_memory_mapped_file", m.mapped)
	s.add("container_memory_swap", m.swap)
	s.add("container_memory_failcnt", m.failures)
	s.add("container_memory_total_active_file_bytes", m.active)
	s.add("container_memory_total_inactive_file_bytes", m.inactive)
	s.add("container_memory_failures_total", m.faults, "pgfault", "container")
	s.add("container_memory_failures_total", m.majorFaults, "pgmajfault", "container")
	s.add("container_oom_events_total", m.kills)
}

// addProcesses counts a container's processes and what they have open.
func (s *Set) addProcesses(c Cgroup) {
	pids := strings.Fields(c.text("pids", "cgroup.procs"))
	var open, sockets uint64
	for _, pid := range pids {
		dir := filepath.Join("/proc", pid, "fd")
		files, _ := os.ReadDir(dir) // it may have ended
		open += uint64(len(files))
		for _, f := range files {
			if target, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && strings.HasPrefix(target, "socket:") {
				sockets++
			}
		}
	}
	s.add("container_processes", uint64(len(pids)))
	s.add("container_threads", c.number("pids", "pids.current"))
	s.add("container_threads_max", c.number("pids", "pids.max"))
	s.add("container_file_descriptors", open)
	s.add("container_sockets", sockets)
}
