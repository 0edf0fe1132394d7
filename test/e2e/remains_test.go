package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"clipper.dev/clipper/internal/cluster"
)

// purge removes a cluster and returns what is left of it.
func purge(name string) error {
	if out, err := programFor(name, "down", "--purge"); err != nil {
		return fmt.Errorf("clipper down --purge: %w\n%s", err, out)
	}
	l, err := cluster.NewLayout(name)
	if err != nil {
		return err
	}
	return remains(l)
}

// purgeWhileBusy purges the tests' cluster while its pods run, and returns what is left of it.
func purgeWhileBusy() error {
	l, err := cluster.NewLayout(clusterName)
	if err != nil {
		return err
	}
	var errs []error
	for _, args := range [][]string{
		{"create", "deployment", "busy", "--image=clipper.dev/demo:v1", "--replicas=6"}, {"expose", "deployment", "busy", "--port=80", "--target-port=8080"},
		{"rollout", "status", "deployment", "busy", "--timeout=60s"},
	} {
		if out, err := command(context.Background(), args...).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out))
		}
	}
	// The pods' interfaces and processes don't carry the cluster's name.
	links, processes := linksOf(l.PodCIDR), processesOf(l)
	if len(links) == 0 && rival == nil || len(processes) == 0 || len(processes) < 3 && rival == nil { // another runtime's are its own
		pods, _ := command(context.Background(), "get", "pods", "-o", "wide").CombinedOutput()
		errs = append(errs, fmt.Errorf("a busy cluster has only the interfaces %v and the processes %v:\n%s", links, processes, pods))
	}
	errs = append(errs, purge(clusterName))
	for _, name := range links {
		if _, err := net.InterfaceByName(name); err == nil {
			errs = append(errs, fmt.Errorf("the interface %s is there", name))
		}
	}
	for _, pid := range processes {
		if lives(pid) {
			errs = append(errs, fmt.Errorf("process %s is there", pid))
		}
	}
	return errors.Join(errs...)
}

// linksOf returns the names of the interfaces to which a network's single addresses are routed: its pods'.
func linksOf(pods netip.Prefix) []string {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil
	}
	var names []string
	for _, route := range routes {
		if route.Dst == nil || !pods.Contains(addressOf(route.Dst)) {
			continue
		}
		link, err := netlink.LinkByIndex(route.LinkIndex)
		if ones, bits := route.Dst.Mask.Size(); err == nil && ones == bits {
			names = append(names, link.Attrs().Name)
		}
	}
	return names
}

// processesOf returns the processes that belong to a cluster, by their cgroup or their command line.
func processesOf(l cluster.Layout) []string {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var pids []string
	for _, dir := range dirs {
		if !lives(filepath.Base(dir)) {
			continue
		}
		cgroups, _ := os.ReadFile(filepath.Join(dir, "cgroup")) // it may have ended
		words, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		args := strings.Split(string(words), "\x00")
		name := slices.Index(args, "--name")
		if bytes.Contains(cgroups, []byte(":"+l.CgroupRoot+"/")) || bytes.Contains(cgroups, []byte(":"+l.CgroupRoot+"-node")) ||
			len(args) > 1 && (args[1] == "server" || args[1] == "agent") && name > 0 && name+1 < len(args) && args[name+1] == l.Name {
			pids = append(pids, filepath.Base(dir))
		}
	}
	return pids
}

// lives tells whether a process runs. One that has ended and whose parent has not asked for its exit code does not.
func lives(pid string) bool {
	_, err := os.Readlink("/proc/" + pid + "/exe")
	return err == nil
}

// remains looks for anything of a cluster on this machine.
func remains(l cluster.Layout) error {
	var left []error
	id := filepath.Base(l.DataDir)
	for _, pattern := range []string{
		l.ConfigDir, l.DataDir, l.RunDir, l.LogDir, "/run/netns/" + id + "-node*",
		"/sys/fs/cgroup" + l.CgroupRoot, "/sys/fs/cgroup" + l.CgroupRoot + "-node*", "/sys/fs/cgroup/*" + l.CgroupRoot, "/sys/fs/cgroup/*" + l.CgroupRoot + "-node*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range found {
			left = append(left, fmt.Errorf("%s is there", path))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		for _, dir := range []string{l.DataDir, l.RunDir} {
			if strings.Contains(line, " "+dir+"/") || strings.Contains(line, " "+dir+" ") {
				left = append(left, fmt.Errorf("still mounted: %s", line))
			}
		}
	}
	for _, pid := range processesOf(l) {
		left = append(left, fmt.Errorf("process %s runs", pid))
	}
	return errors.Join(append(left, remainsOfNetwork(l))...)
}

func addressOf(n *net.IPNet) netip.Addr {
	a, _ := netip.AddrFromSlice(n.IP.To4())
	return a
}

func remainsOfNetwork(l cluster.Layout) error {
	var left []error
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	prefix, _, _ := strings.Cut(l.Bridge, "-")
	for _, link := range links {
		if strings.HasPrefix(link.Name, prefix+"-") {
			left = append(left, fmt.Errorf("the interface %s is there", link.Name))
		}
	}
	tables, err := (&nftables.Conn{}).ListTables()
	if err != nil {
		return err
	}
	for _, table := range tables {
		if table.Name == l.NFTables+"-net" || table.Name == l.NFTables+"-proxy" {
			left = append(left, fmt.Errorf("the nftables table %s is there", table.Name))
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, route := range routes { // another runtime's bridge stays with it
		if route.Dst != nil && rival == nil && (l.PodCIDR.Contains(addressOf(route.Dst)) || l.NodeCIDR.Contains(addressOf(route.Dst))) {
			left = append(left, fmt.Errorf("the route %s is there", route))
		}
	}
	return errors.Join(left...)
}
