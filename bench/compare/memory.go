package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// perPodRow is the row that the floor has its figure in too.
const perPodRow = "memory per running pod beyond its own processes"

// settling is how long the machine is left alone before its memory is read.
const settling = 5 * time.Second

// usedMemory is what of the machine's memory is neither free nor given back when wanted, in bytes.
func usedMemory() (int64, error) {
	info, err := kilobytes("/proc/meminfo")
	return info["MemTotal"] - info["MemFree"] - info["Buffers"] - info["Cached"] + info["Shmem"] - info["SReclaimable"], err
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

func settledMemory(ctx context.Context) (int64, error) {
	if err := sleep(ctx, settling); err != nil {
		return 0, err
	}
	return usedMemory()
}

// memoryPerPod tells what the machine uses more than before for each pod, less what the pods' own processes have for themselves.
func memoryPerPod(ctx context.Context, before int64, r *results) error {
	after, err := settledMemory(ctx)
	if err != nil {
		return err
	}
	own, err := ownMemory(idleTime)
	if err != nil {
		return err
	}
	if own.processes != crowd {
		return fmt.Errorf("%d processes of %d pods were found", own.processes, crowd)
	}
	r.add(perPodRow, "%.2f MB", float64(after-before-own.bytes)/crowd/1e6)
	return nil
}

type own struct {
	processes int
	bytes     int64
}

// ownMemory adds up the anonymous memory and page tables of all processes whose last argument is given.
func ownMemory(argument string) (own, error) {
	var sum own
	found, err := processes(func(args []string) bool { return args[len(args)-1] == argument })
	for _, pid := range found {
		rollup, rollupErr := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		status, statusErr := kilobytes(fmt.Sprintf("/proc/%d/status", pid))
		if err := errors.Join(rollupErr, statusErr); err != nil {
			return sum, err
		}
		sum.processes++
		sum.bytes += rollup["Pss_Anon"] + status["VmPTE"]
	}
	return sum, err
}

// processes finds processes by their arguments.
func processes(are func(args []string) bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || len(data) == 0 {
			continue // it ended, or is the kernel's
		}
		if are(strings.Split(strings.TrimRight(string(data), "\x00"), "\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// measureFloor makes what no pod can do without, a network namespace, cgroups and an overlay mount each, and tells what the kernel uses for it.
func measureFloor(ctx context.Context, scratch string, r *results) error {
	dir := filepath.Join(scratch, "floor")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	before, err := settledMemory(ctx)
	if err != nil {
		return err
	}
	var remove []func() error
	for i := range crowd {
		undo, makeErr := barePod(filepath.Join(dir, strconv.Itoa(i)), fmt.Sprintf("clipper-bench-floor-%d", i))
		remove = append(remove, undo...)
		if err = makeErr; err != nil {
			break
		}
	}
	var after int64
	if err == nil {
		after, err = settledMemory(ctx)
	}
	for _, f := range remove {
		err = errors.Join(err, f())
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		return err
	}
	r.add(perPodRow, "%.2f MB", float64(after-before)/crowd/1e6)
	return nil
}

// barePod makes a pod's kernel objects and returns how to take them away, also those that a failure left.
func barePod(dir, cgroup string) (undo []func() error, err error) {
	ns, err := newNetNS()
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	undo = append(undo, ns.Close)
	paths, err := cgroupRoots(cgroup)
	if err != nil {
		return undo, err
	}
	for _, path := range paths {
		if err := os.Mkdir(path, 0o755); err != nil {
			return undo, err
		}
		undo = append(undo, func() error { return os.Remove(path) })
	}
	for _, sub := range []string{"lower", "upper", "work", "merged"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return undo, err
		}
	}
	merged := filepath.Join(dir, "merged")
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return undo, fmt.Errorf("mount an overlay at %s: %w", merged, err)
	}
	return append(undo, func() error { return unix.Unmount(merged, 0) }), nil
}

// newNetNS makes a network namespace that lives as long as its descriptor.
func newNetNS() (*os.File, error) {
	type made struct {
		ns  *os.File
		err error
	}
	result := make(chan made)
	go func() {
		// The thread ends with the goroutine: it is never unlocked.
		runtime.LockOSThread()
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			result <- made{err: err}
			return
		}
		ns, err := os.Open("/proc/thread-self/ns/net")
		result <- made{ns, err}
	}()
	m := <-result
	return m.ns, m.err
}
