package cluster

import (
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
	if err := thisKernel().check(); err != nil {
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
	empty, err := isEmpty(l.DataDir)
	if err != nil || empty {
		return err
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

// isEmpty tells whether a data directory is to be filled: it is missing, or nothing is in it but what a new file system has.
func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s cannot be read: %w", dir, err)
	}
	return !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() != "lost+found" }), nil
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
