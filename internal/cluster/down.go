package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper"
	"clipper.dev/clipper/internal/network"
	"clipper.dev/clipper/internal/proxy/nftables"
)

// How long a daemon may take to end, and a node's containers.
const (
	daemonPatience    = 20 * time.Second
	containerPatience = 30 * time.Second
)

// Down stops a cluster's daemons and containers on this machine and takes away what they had in the kernel. Its data stays, unless
// purge: then nothing at all is left. It can be repeated, and works after a crash.
func Down(ctx context.Context, l Layout, purge bool) error {
	if os.Geteuid() != 0 {
		return errors.New("clipper needs root to stop containers: try again with sudo")
	}
	if err := checkOwner(l); err != nil {
		return err
	}
	nodes, err := nodesOf(l, 0)
	if err != nil {
		return err
	}
	// Daemons first: they would start again what is taken away.
	var daemons errgroup.Group
	for n := 1; n <= nodes; n++ {
		daemons.Go(func() error { return stop(l.nodeLayout(n).PIDFile(), daemonPatience) })
	}
	if err := daemons.Wait(); err != nil {
		return err
	}
	var teardown errgroup.Group
	for n := 1; n <= nodes; n++ {
		teardown.Go(func() error { return teardownNode(ctx, l, n) })
	}
	err = teardown.Wait()
	for n := 2; n <= nodes; n++ {
		err = errors.Join(err, removeNodeNetNS(l, n))
	}
	err = errors.Join(err, removeLink(l.NodeBridge))
	if err != nil || !purge {
		return err
	}
	return removeFiles(l)
}

// nodeLayout is the layout of node n of this machine; the first is the server's.
func (l Layout) nodeLayout(n int) Layout {
	if n == 1 {
		return l
	}
	return l.Node(n)
}

// teardownNode stops a node's containers and takes away its network, mounts and cgroups.
func teardownNode(ctx context.Context, l Layout, n int) error {
	own := l.nodeLayout(n)
	ctx, cancel := context.WithTimeout(ctx, containerPatience)
	defer cancel()
	k := keeper.NewClient(filepath.Join(own.RunDir, "runtime", "keeper"))
	if _, err := k.Hello(ctx); err == nil {
		if err := k.Shutdown(ctx, true); err != nil {
			return fmt.Errorf("stop the containers: %w", err)
		}
	}
	k.Close()
	ns := ""
	if n > 1 {
		ns = l.NetNS(n)
	}
	// A namespace that is gone has taken everything in it along.
	if _, err := os.Stat("/run/netns/" + ns); ns == "" || err == nil {
		if err := inNetNS(ns, func() error { return purgeNetwork(own) }); err != nil {
			return err
		}
	}
	return errors.Join(unmountBelow(own.DataDir), unmountBelow(own.RunDir), removeCgroups(own.CgroupRoot))
}

func purgeNetwork(l Layout) error {
	cfg := networkConfig(l, "", netip.Addr{}, slog.New(slog.DiscardHandler))
	return errors.Join(
		network.Purge(cfg),
		nftables.Purge(nftables.Config{Table: l.NFTables + "-proxy", ClusterCIDRs: []netip.Prefix{l.PodCIDR}}),
	)
}

// unmountBelow unmounts everything below a folder, the deepest first.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) > 4 {
			if p := unescapeMount(fields[4]); p == dir || strings.HasPrefix(p, dir+"/") {
				points = append(points, p)
			}
		}
	}
	var errs []error
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// removeCgroups removes the cluster's cgroups from every hierarchy. Processes that are still in them are killed: they are containers'
// that their keeper did not outlive.
func removeCgroups(root string) error {
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*" + root)
	if err != nil {
		return err
	}
	hierarchies = append(hierarchies, "/sys/fs/cgroup"+root)
	var errs []error
	for _, dir := range hierarchies {
		if _, err := os.Stat(dir); err == nil {
			errs = append(errs, removeCgroup(dir))
		}
	}
	return errors.Join(errs...)
}

func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	// Killed processes take a moment to leave; there is nothing to wait on in cgroup v1.
	const tries = 100
	for range tries {
		if err = unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		killAll(dir)
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}

func killAll(cgroup string) {
	data, err := os.ReadFile(cgroup + "/cgroup.procs")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err == nil && pid > 1 {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func removeFiles(l Layout) error {
	var errs []error
	for _, dir := range []string{l.DataDir, l.LogDir, l.RunDir, l.ConfigDir} {
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
