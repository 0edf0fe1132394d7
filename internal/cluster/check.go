package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Check tells in one line what keeps a cluster from starting on this machine; nil if nothing does. It changes nothing.
func Check(l Layout) error {
	if os.Geteuid() != 0 {
		return errors.New("clipper needs root to run containers: try again with sudo")
	}
	if err := checkKernel(); err != nil {
		return err
	}
	for _, dir := range []string{l.ConfigDir, l.DataDir, l.LogDir, l.RunDir} {
		if err := checkDir(dir); err != nil {
			return err
		}
	}
	if err := checkOwner(l); err != nil {
		return err
	}
	for what, port := range map[string]int{"the API server": l.APIPort, "the kubelet": l.KubeletPort, "etcd's peers": l.PeerPort} {
		if err := checkPort(what, port); err != nil {
			return err
		}
	}
	return nil
}

// checkKernel looks for what containers cannot do without.
func checkKernel() error {
	data, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return fmt.Errorf("read /proc/filesystems: %w", err)
	}
	if !slices.Contains(strings.Fields(string(data)), "overlay") {
		return errors.New("this kernel has no overlay file system: load the module \"overlay\"")
	}
	for _, ns := range []string{"net", "mnt", "pid", "ipc", "uts", "cgroup"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			return fmt.Errorf("this kernel has no %s namespaces, which containers need", ns)
		}
	}
	return checkCgroups()
}

func checkCgroups() error {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return nil
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	var mounted []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if _, options, ok := strings.Cut(lines.Text(), " - cgroup "); ok {
			fields := strings.Fields(options)
			mounted = append(mounted, strings.Split(fields[len(fields)-1], ",")...)
		}
	}
	for _, controller := range []string{"cpu", "memory", "pids", "freezer", "devices"} {
		if !slices.Contains(mounted, controller) {
			return fmt.Errorf("the cgroup controller %q is not mounted below /sys/fs/cgroup, and containers need it", controller)
		}
	}
	return nil
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", dir, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder: move it away, or choose another --name", dir)
	}
	return nil
}

// ownerFile marks a data directory as Clipper's.
const ownerFile = "CLIPPER"

// checkOwner refuses a data directory that something else filled.
func checkOwner(l Layout) error {
	entries, err := os.ReadDir(l.DataDir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", l.DataDir, err)
	}
	name, err := os.ReadFile(l.DataDir + "/" + ownerFile)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s holds files that are not a Clipper cluster's: move them away, or choose another --name", l.DataDir)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w", l.DataDir, err)
	}
	if got := strings.TrimSpace(string(name)); got != l.Name {
		return fmt.Errorf("%s belongs to the cluster %q, not to %q", l.DataDir, got, l.Name)
	}
	return nil
}

// claim makes the folders and marks the data directory.
func claim(l Layout) error {
	for dir, mode := range map[string]os.FileMode{l.DataDir: 0o711, l.RunDir: 0o711, l.LogDir: 0o755, l.ConfigDir: 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	return os.WriteFile(l.DataDir+"/"+ownerFile, []byte(l.Name+"\n"), 0o644)
}

func checkPort(what string, port int) error {
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return fmt.Errorf("port %d, which %s needs, is taken: stop what listens there, or choose another --name", port, what)
	}
	return listener.Close()
}
