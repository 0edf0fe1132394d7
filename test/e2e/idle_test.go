package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"clipper.dev/clipper/internal/cluster"
)

// cpuWindow is over how long an idle cluster's CPU is measured.
const cpuWindow = time.Minute

// printIdle waits, and prints what the cluster's processes use while nobody asks for anything.
func printIdle(after time.Duration) error {
	l, err := cluster.NewLayout(clusterName)
	if err != nil {
		return err
	}
	time.Sleep(after)
	before := map[string]time.Duration{}
	pids := processesOf(l)
	for _, pid := range pids {
		before[pid] = cpuTime(pid)
	}
	time.Sleep(cpuWindow)
	slices.Sort(pids)
	var pss int64
	var cpu time.Duration
	for _, pid := range pids {
		command, _ := os.ReadFile("/proc/" + pid + "/cmdline") // it may have ended
		p, c := pssBytes(pid), cpuTime(pid)-before[pid]
		pss, cpu = pss+p, cpu+c
		fmt.Printf("idle: %6.1f MB PSS %6.2f%% of a core  %.60s\n", float64(p)/1e6, 100*c.Seconds()/cpuWindow.Seconds(), strings.ReplaceAll(string(command), "\x00", " "))
	}
	fmt.Printf("idle: %6.1f MB PSS %6.2f%% of a core  in all, %s after the tests\n", float64(pss)/1e6, 100*cpu.Seconds()/cpuWindow.Seconds(), after)
	return nil
}

// cpuTime is what a process has used so far; 0 if it has ended.
func cpuTime(pid string) time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture that Go runs on
	data, _ := os.ReadFile("/proc/" + pid + "/stat")
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick
}

// pssBytes is a process' share of memory; 0 if it has ended.
func pssBytes(pid string) int64 {
	data, _ := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}
