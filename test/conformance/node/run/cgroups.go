package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const cgroupDir = "/sys/fs/cgroup"

// hierarchies are where control groups are mounted, with the file system's type and options.
func hierarchies() (out []hierarchy, err error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if (f[2] == "cgroup" || f[2] == "cgroup2") && strings.HasPrefix(f[1], cgroupDir) {
			out = append(out, hierarchy{f[1], f[2], strings.TrimPrefix(f[3], "rw,relatime,")})
		}
	}
	return out, nil
}

type hierarchy struct{ dir, kind, options string }

// ownGroups puts this process into groups of a name: they are the roots of the control groups' namespace that its child gets. The suite's kubelet has
// the root for its own, and would take pods of another kubelet there for its orphans.
func ownGroups(name string) (restore func(), err error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	pid := []byte(fmt.Sprint(os.Getpid()))
	for _, h := range all {
		dir := filepath.Join(h.dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if data, err := os.ReadFile(filepath.Join(h.dir, file)); err == nil {
				if err := os.WriteFile(filepath.Join(dir, file), data, 0); err != nil {
					return nil, err
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), pid, 0); err != nil {
			return nil, fmt.Errorf("enter control group %s: %w", dir, err)
		}
	}
	return func() {
		for _, h := range all {
			// What is still in use stays; the next run of this name finds it.
			_ = os.WriteFile(filepath.Join(h.dir, "cgroup.procs"), pid, 0)
			_ = os.Remove(filepath.Join(h.dir, name))
		}
	}, nil
}

// mountGroups shows the namespace's control groups where the machine's were.
func mountGroups() error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		options := h.options
		if h.kind == "cgroup2" {
			options = ""
		}
		if err := syscall.Unmount(h.dir, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", h.dir, err)
		}
		if err := syscall.Mount(h.kind, h.dir, h.kind, 0, options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", h.kind, h.dir, err)
		}
	}
	return nil
}
