package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// A foreigner is what Clipper did not start and must leave alone: a process in namespaces and a cgroup of its own, a mount, a table of nftables.
type foreigner struct {
	name   string
	cmd    *exec.Cmd
	cgroup string
	mount  string
	table  *nftables.Table
}

// stranger lives from before the cluster's start until after its end.
var stranger foreigner

func (f *foreigner) start() error {
	f.name = "not-clippers-" + *name // which no name of Clipper's begins like
	f.cgroup = "/sys/fs/cgroup/" + f.name
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		f.cgroup = "/sys/fs/cgroup/pids/" + f.name
	}
	if err := errors.Join(f.clear(), os.MkdirAll(f.cgroup, 0o755)); err != nil {
		return err
	}
	f.cmd = exec.Command(filepath.Join(filepath.Dir(*clipper), "demo"), "sleep", "1h")
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS}
	if err := f.cmd.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.cgroup, "cgroup.procs"), []byte(strconv.Itoa(f.cmd.Process.Pid)), 0); err != nil {
		return err
	}
	var err error
	if f.mount, err = os.MkdirTemp("", f.name); err != nil {
		return err
	}
	if err := unix.Mount(f.name, f.mount, "tmpfs", 0, "size=1m"); err != nil {
		return err
	}
	c := nftables.Conn{}
	f.table = c.AddTable(&nftables.Table{Name: f.name, Family: nftables.TableFamilyINet})
	return c.Flush()
}

// clear takes away what a run that was cut off left: its process and its mount. The table is made anew.
func (f *foreigner) clear() error {
	procs, _ := os.ReadFile(filepath.Join(f.cgroup, "cgroup.procs")) // there is none as a rule
	for _, word := range strings.Fields(string(procs)) {
		if pid, err := strconv.Atoi(word); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[0] == f.name {
			if err := errors.Join(unix.Unmount(fields[1], 0), os.Remove(fields[1])); err != nil {
				return err
			}
		}
	}
	return nil
}

// untouched tells what is no longer as it was.
func (f *foreigner) untouched() error {
	var errs []error
	if procs, err := os.ReadFile(filepath.Join(f.cgroup, "cgroup.procs")); err != nil || strings.TrimSpace(string(procs)) != strconv.Itoa(f.cmd.Process.Pid) {
		errs = append(errs, fmt.Errorf("the cgroup has %q, %v", procs, err))
	}
	if err := f.cmd.Process.Signal(syscall.Signal(0)); err != nil {
		errs = append(errs, fmt.Errorf("the process: %w", err))
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || !strings.Contains(string(mounts), f.mount+" ") {
		errs = append(errs, errors.New("the mount is gone"))
	}
	tables, err := (&nftables.Conn{}).ListTables()
	if err != nil {
		errs = append(errs, err)
	}
	for _, t := range tables {
		if t.Name == f.name {
			return errors.Join(errs...)
		}
	}
	return errors.Join(append(errs, errors.New("the table is gone"))...)
}

// end takes away what was started.
func (f *foreigner) end() error {
	var errs []error
	if f.cmd != nil && f.cmd.Process != nil {
		errs = append(errs, f.cmd.Process.Kill())
		_ = f.cmd.Wait() // it was killed
	}
	if f.mount != "" {
		errs = append(errs, unix.Unmount(f.mount, 0), os.Remove(f.mount))
	}
	if f.table != nil {
		c := nftables.Conn{}
		c.DelTable(f.table)
		errs = append(errs, c.Flush())
	}
	return errors.Join(append(errs, os.Remove(f.cgroup))...)
}
