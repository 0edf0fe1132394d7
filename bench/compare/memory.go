package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The rows that the floor has its figure in too. The machine's used memory tells it all, but only on a machine that does nothing else; the
// sum of what the kernel and a side's processes have grown by holds on a busy one as well.
const (
	perPodUsedRow  = "memory per running pod beyond its own processes (machine's used memory)"
	perPodGrownRow = "memory per running pod beyond its own processes (kernel's and the side's processes')"
)

// settling is how long the machine is left alone before its memory is read.
const settling = 5 * time.Second

// memory is a reading of what pods make grow, in bytes.
type memory struct {
	used   int64 // of the machine: neither free nor given back when wanted
	kernel int64 // what the kernel has for itself, and tmpfs
	side   int64 // what the side's processes have for themselves
}

func (m memory) minus(other memory) memory {
	return memory{m.used - other.used, m.kernel - other.kernel, m.side - other.side}
}

// settledMemory reads the memory when the machine has settled; pids are the side's processes.
func settledMemory(ctx context.Context, pids func() ([]int, error)) (memory, error) {
	debug.FreeOSMemory() // or what this program gives back between two readings would be taken for what was measured
	if err := sleep(ctx, settling); err != nil {
		return memory{}, err
	}
	if err := shrinkSlabs(); err != nil {
		return memory{}, err
	}
	found, err := pids()
	if err != nil {
		return memory{}, err
	}
	side, _, err := privateMemory(found)
	if err != nil {
		return memory{}, err
	}
	ready, err := readyPages()
	if err != nil {
		return memory{}, err
	}
	i, err := kilobytes("/proc/meminfo")
	return memory{
		used:   i["MemTotal"] - i["MemFree"] - ready - i["Buffers"] - i["Cached"] + i["Shmem"] - i["SReclaimable"],
		kernel: i["SUnreclaim"] + i["PageTables"] + i["Percpu"] + i["VmallocUsed"] + i["Shmem"], // threads' stacks are in VmallocUsed
		side:   side,
	}, err
}

// shrinkSlabs has the kernel let go of what its caches keep for objects to come: what was started and ended before would otherwise make
// what is measured look smaller.
func shrinkSlabs() error {
	caches, err := filepath.Glob("/sys/kernel/slab/*/shrink")
	for _, cache := range caches {
		if writeErr := os.WriteFile(cache, []byte("1"), 0); writeErr != nil && !errors.Is(writeErr, os.ErrNotExist) {
			err = errors.Join(err, writeErr)
		}
	}
	return err
}

// readyPages is how much free memory the processors keep at hand, tens of megabytes that the kernel doesn't count as free.
func readyPages() (int64, error) {
	data, err := os.ReadFile("/proc/zoneinfo")
	pages := 0
	for line := range strings.Lines(string(data)) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(line), "count:"); ok && err == nil {
			var n int
			n, err = strconv.Atoi(strings.TrimSpace(count))
			pages += n
		}
	}
	return int64(pages) * int64(os.Getpagesize()), err
}

// kilobytes reads a file of "Name:  1234 kB" lines, in bytes.
func kilobytes(path string) (map[string]int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := map[string]int64{}
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) == 2 && fields[1] == "kB" {
			n, err := strconv.ParseInt(fields[0], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			values[name] = n << 10
		}
	}
	return values, nil
}

// memoryPerPod tells what running pods have made grow, less what their own processes have.
func memoryPerPod(ctx context.Context, s *side, before memory, r *results) error {
	after, err := settledMemory(ctx, s.overhead)
	if err != nil {
		return err
	}
	// Only now: a pod runs a moment before its process has become its program.
	own, err := processes(isOwn)
	if err != nil {
		return err
	}
	if len(own) != crowd {
		return fmt.Errorf("%d processes of %d pods were found", len(own), crowd)
	}
	private, kernel, err := privateMemory(own)
	if err != nil {
		return err
	}
	grown := after.minus(before)
	r.add(perPodUsedRow, "%.2f MB", float64(grown.used-private-kernel)/crowd/1e6)
	r.add(perPodGrownRow, "%.2f MB", float64(grown.kernel+grown.side-kernel)/crowd/1e6)
	return nil
}

// isOwn tells the processes that the pods themselves run, on either side.
func isOwn(args []string) bool { return args[len(args)-1] == idleTime }

// overhead returns the side's processes, those that it starts for pods included, but not the pods' own.
func (s *side) overhead() ([]int, error) {
	all, err := s.find()
	if err != nil {
		return nil, err
	}
	own, err := processes(isOwn)
	return slices.DeleteFunc(all, func(pid int) bool { return slices.Contains(own, pid) }), err
}

// privateMemory adds up what processes have for themselves: anonymous memory, and in the kernel page tables and each thread's stack and task.
func privateMemory(pids []int) (private, kernel int64, err error) {
	const thread = 16<<10 + 4<<10
	for _, pid := range pids {
		rollup, rollupErr := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		status, statusErr := kilobytes(fmt.Sprintf("/proc/%d/status", pid))
		threads, threadsErr := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err := errors.Join(rollupErr, statusErr, threadsErr); err != nil {
			return 0, 0, err
		}
		private += rollup["Pss_Anon"]
		kernel += status["VmPTE"] + thread*int64(len(threads))
	}
	return private, kernel, nil
}
