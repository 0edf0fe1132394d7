package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// makeNode makes what upstream's node expects to be there: its cgroups and the bridge with its address.
func makeNode() error {
	roots, err := cgroupRoots(nodeCgroup)
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.Mkdir(root, 0o755); err != nil {
			return err
		}
		if err := inheritCPUSet(root); err != nil {
			return err
		}
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: nodeBridge}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge %s: %w", nodeBridge, err)
	}
	_, subnet, err := net.ParseCIDR(podCIDR)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(nodeIP), Mask: subnet.Mask}}
	return errors.Join(netlink.AddrAdd(bridge, address), netlink.LinkSetUp(bridge), os.MkdirAll(nodeRun, 0o700))
}

// inheritCPUSet gives a new cgroup of version 1 its parent's processors and memory nodes, without which it takes no process.
func inheritCPUSet(cgroup string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(cgroup), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(cgroup, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cgroupRoots returns a cgroup's folder in every hierarchy.
func cgroupRoots(name string) ([]string, error) {
	files, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil { // version 2 alone
		files = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	var roots []string
	for _, f := range files {
		roots = append(roots, filepath.Join(filepath.Dir(f), name))
	}
	return roots, nil
}

// removeNode takes away all that a node of upstream's leaves: shims and containers, mounts, cgroups, the bridge, files.
func removeNode(dir string) error {
	roots, err := cgroupRoots(nodeCgroup)
	if err != nil {
		return err
	}
	if err := killAll(); err != nil {
		return err
	}
	errs := []error{unmountBelow(dir), unmountBelow(nodeRun)}
	for _, root := range roots {
		errs = append(errs, removeCgroup(root))
	}
	if link, err := netlink.LinkByName(nodeBridge); err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	return errors.Join(append(errs, os.RemoveAll(nodeRun))...)
}

// killAll kills the node's containers and the shims that hold them, and waits until they are gone.
func killAll() error {
	end := time.Now().Add(20 * time.Second)
	for {
		pids, err := nodeProcesses()
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL) // fails only if it has ended
		}
		thaw()
		time.Sleep(20 * time.Millisecond)
	}
}

// thaw lets the node's frozen processes end: runc, killed in the middle of its work, leaves them frozen.
func thaw() {
	for name, state := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
		for _, file := range cgroupFiles(name) {
			os.WriteFile(file, []byte(state), 0) // fails only if the cgroup has gone
		}
	}
}

// nodeProcesses finds containerd's shims and what runs in the node's containers.
func nodeProcesses() ([]int, error) {
	shims, err := processes(func(args []string) bool {
		return filepath.Base(args[0]) == "containerd-shim-runc-v2" && slices.Contains(args, nodeRun+"/containerd.sock")
	})
	if err != nil {
		return nil, err
	}
	for _, file := range cgroupFiles("cgroup.procs") {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has gone
		}
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil {
				shims = append(shims, pid)
			}
		}
	}
	slices.Sort(shims)
	return slices.Compact(shims), nil
}

// cgroupFiles finds the files of a name in all of the node's cgroups. Cgroups may go while it looks.
func cgroupFiles(name string) []string {
	roots, err := cgroupRoots(nodeCgroup)
	if err != nil {
		return nil
	}
	var files []string
	for _, root := range roots {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == name {
				files = append(files, path)
			}
			return nil
		})
	}
	return files
}

// removeCgroup removes a cgroup with all below it, the innermost first.
func removeCgroup(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, dir := range slices.Backward(dirs) {
		err = errors.Join(err, os.Remove(dir))
	}
	return err
}

// unmountBelow unmounts what is mounted below a folder, the latest first.
func unmountBelow(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	var points []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	err = lines.Err()
	for _, p := range slices.Backward(points) {
		err = errors.Join(err, unix.Unmount(p, unix.MNT_DETACH))
	}
	return err
}
