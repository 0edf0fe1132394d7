package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"clipper.dev/clipper/internal/cluster"
)

// holdings counts what a cluster holds on this machine, by what it is called.
type holdings map[string]int

// heldBy looks at all that a pod can leave behind: mounts, cgroups, processes and what they hold open, namespaces, interfaces, rules, files.
func heldBy(l cluster.Layout) (holdings, error) {
	h := holdings{}
	err := errors.Join(h.addMounts(l), h.addFiles(l), h.addNetwork(l))
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		dirs, _ := filepath.Glob(root + l.CgroupRoot + "*") // the pattern is right
		for _, dir := range dirs {
			h.walk("cgroup", dir, func(path string, d fs.DirEntry) bool { return d.IsDir() })
		}
	}
	for _, pid := range processesOf(l) {
		h.addProcess(pid)
	}
	return h, err
}

func (h holdings) addMounts(l cluster.Layout) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " "+l.DataDir+"/") || strings.Contains(line, " "+l.RunDir+"/") {
			h["mount "+strings.TrimSpace(line)]++
		}
	}
	return err
}

// addProcess notes a process by its command, and the namespaces, mounts and processes that it holds by descriptors.
func (h holdings) addProcess(pid string) {
	words, _ := os.ReadFile("/proc/" + pid + "/cmdline") // it may have ended
	command := filepath.Base(strings.Split(string(words), "\x00")[0])
	h["process "+command]++
	if command == "clipper" {
		return // it is a new one after every kill
	}
	fds, _ := filepath.Glob("/proc/" + pid + "/fd/*")
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil {
			continue
		}
		for _, kind := range []string{"net:", "mnt:", "pid:", "ipc:", "uts:", "user:", "cgroup:", "pipe:", "/dev/pts"} {
			if strings.HasPrefix(target, kind) {
				h["descriptor of "+command+" "+kind]++
			}
		}
	}
	namespaces, _ := filepath.Glob("/proc/" + pid + "/task/*/ns/net")
	for _, ns := range namespaces {
		if target, err := os.Readlink(ns); err == nil {
			h["namespace of "+command+" "+target] = 1
		}
	}
}

// grows are the folders that are written to without a pod's doing.
var grows = []string{"/etcd/", "/images/", "/trash", "/clipper.log", "/keeper/pipes/spare", "/apiserver/", "/audit"}

func (h holdings) addFiles(l cluster.Layout) error {
	for _, dir := range []string{l.DataDir, l.RunDir, l.LogDir} {
		h.walk("file", dir, func(path string, d fs.DirEntry) bool {
			for _, g := range grows {
				if strings.Contains(path, g) {
					return false
				}
			}
			return true
		})
	}
	return nil
}

func (h holdings) walk(kind, dir string, counts func(string, fs.DirEntry) bool) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && counts(path, d) {
			h[kind+" "+path]++
		}
		return nil // what goes meanwhile is no leak
	})
}

// addNetwork counts interfaces, addresses' routes and rules, in the machine's namespace and in those of further nodes.
func (h holdings) addNetwork(l cluster.Layout) error {
	nodes, err := filepath.Glob("/run/netns/" + filepath.Base(l.DataDir) + "-node*")
	if err != nil {
		return err
	}
	for _, path := range append(nodes, "/proc/self/ns/net") {
		if err := h.addNamespace(l, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func (h holdings) addNamespace(l cluster.Layout, path string) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer handle.Close()
	routes, err := handle.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Dst != nil && (l.PodCIDR.Contains(addressOf(r.Dst)) || l.NodeCIDR.Contains(addressOf(r.Dst))) {
			h["route in "+path+" to "+r.Dst.String()]++
		}
	}
	if path != "/proc/self/ns/net" { // in the machine's own, others' come and go
		links, err := handle.LinkList()
		if err != nil {
			return err
		}
		h["interfaces in "+path] = len(links)
	}
	return h.addRules(l, path, int(ns))
}

func (h holdings) addRules(l cluster.Layout, path string, ns int) error {
	c, err := nftables.New(nftables.WithNetNSFd(ns))
	if err != nil {
		return err
	}
	tables, err := c.ListTables()
	if err != nil {
		return err
	}
	for _, table := range tables {
		if !strings.HasPrefix(table.Name, l.NFTables+"-") {
			continue
		}
		sets, err := c.GetSets(table)
		if err != nil {
			return err
		}
		for _, set := range sets {
			elements, err := c.GetSetElements(set)
			if err != nil {
				return err
			}
			h["elements in "+path+" "+table.Name+" "+set.Name] = len(elements)
		}
	}
	chains, err := c.ListChains()
	if err != nil {
		return err
	}
	for _, chain := range chains {
		if !strings.HasPrefix(chain.Table.Name, l.NFTables+"-") {
			continue
		}
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			return err
		}
		h["rules in "+path+" "+chain.Table.Name+" "+chain.Name] = len(rules)
	}
	return nil
}

// beyond lists what there is more of than there was.
func (h holdings) beyond(before holdings) error {
	var errs []error
	for what, n := range h {
		if n > before[what] {
			errs = append(errs, fmt.Errorf("%s: %d, and was %d", what, n, before[what]))
		}
	}
	return errors.Join(errs...)
}
