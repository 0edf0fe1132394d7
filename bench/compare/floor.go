package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// measureFloor makes what no pod can do without, a network namespace, cgroups and an overlay mount each, and tells what the kernel uses for it.
func measureFloor(ctx context.Context, scratch string, r *results) error {
	dir := filepath.Join(scratch, "floor")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	nobody := func() ([]int, error) { return nil, nil }
	before, err := settledMemory(ctx, nobody)
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
	var after memory
	if err == nil {
		after, err = settledMemory(ctx, nobody)
	}
	for _, f := range remove {
		err = errors.Join(err, f())
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		return err
	}
	grown := after.minus(before)
	r.add(perPodUsedRow, "%.2f MB", float64(grown.used)/crowd/1e6)
	r.add(perPodGrownRow, "%.2f MB", float64(grown.kernel)/crowd/1e6)
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
