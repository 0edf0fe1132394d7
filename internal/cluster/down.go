package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/network"
	"clipper.dev/clipper/internal/proxy/nftables"
	"clipper.dev/clipper/internal/runtime"
)

// How long a daemon may take to end, and a node's containers.
const (
	daemonPatience    = 20 * time.Second
	containerPatience = 30 * time.Second
)

// Down stops a cluster's daemons and containers on this machine and takes away what they had in the kernel. Its data stays, unless
// purge: then nothing at all is left. It can be repeated, and works after a crash.
func Down(ctx context.Context, l Layout, purge bool) error {
	if err := checkOwner(l); err != nil {
		return err
	}
	if _, err := os.Stat(l.DataDir); errors.Is(err, os.ErrNotExist) && !purge {
		return fmt.Errorf("there is no cluster %s on this machine", l.Name)
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
		teardown.Go(func() error { return teardownNode(ctx, l, n, purge) })
	}
	err = teardown.Wait()
	for n := 2; n <= nodes; n++ {
		err = errors.Join(err, removeNodeNetNS(l, n))
	}
	if neighbour(l) == "" {
		err = errors.Join(err, removeLink(l.NodeBridge))
	}
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
func teardownNode(ctx context.Context, l Layout, n int, purge bool) error {
	own := l.nodeLayout(n)
	where, err := own.places()
	if err != nil {
		return err
	}
	own.RootDir = where.RootDir
	ctx, cancel := context.WithTimeout(ctx, containerPatience)
	defer cancel()
	stop := runtime.Config{StateDir: own.RuntimeDir(), RunDir: filepath.Join(own.RunDir, "runtime"), CgroupRoot: own.CgroupRoot[1:]}
	if err := runtime.Stop(ctx, stop); err != nil {
		return fmt.Errorf("stop the containers: %w", err)
	}
	ns := ""
	if n > 1 {
		ns = l.NetNS(n)
		if err := dropDeadNetNS(ns); err != nil {
			return err
		}
	}
	// A namespace that is gone has taken everything in it along.
	if _, err := os.Stat(filepath.Join(netnsDir, ns)); ns == "" && neighbour(l) == "" || ns != "" && err == nil {
		if err := inNetNS(ns, func() error { return purgeNetwork(own) }); err != nil {
			return err
		}
	}
	// Of the data directory only what the kubelet mounts there: a disk of its own for the database, say, is the administrator's.
	if err := errors.Join(runtime.UnmountBelow(own.KubeletDir()), runtime.UnmountBelow(own.RunDir)); err != nil {
		return err
	}
	return own.leave(purge)
}

// neighbour names a cluster that runs on this machine in the slot of this one: what links of that slot there are belong to it, since two cannot run at once.
func neighbour(l Layout) string {
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(l.RunDir), DefaultName+"-*", filepath.Base(l.PIDFile()))) // the pattern is well-formed
	for _, file := range files {
		name := strings.TrimPrefix(filepath.Base(filepath.Dir(file)), DefaultName+"-")
		if other, err := NewLayout(name); err == nil && name != l.Name && other.Bridge == l.Bridge && runningPID(file) != 0 {
			return name
		}
	}
	return ""
}

func purgeNetwork(l Layout) error {
	cfg := networkConfig(l, "", netip.Addr{}, slog.New(slog.DiscardHandler))
	return errors.Join(
		network.Purge(cfg),
		nftables.Purge(l.NFTables+"-proxy"),
	)
}

func removeFiles(l Layout) error {
	entries, err := os.ReadDir(l.DataDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	errs := []error{withdrawFolders(l.DataDir, wellKnownDir)}
	for _, e := range entries {
		if e.Name() != ownerFile {
			errs = append(errs, removeFolder(filepath.Join(l.DataDir, e.Name())))
		}
	}
	for _, dir := range []string{l.LogDir, l.RunDir, l.ConfigDir} {
		errs = append(errs, removeFolder(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return removeFolder(l.DataDir) // with its mark, which lets a purge that failed be repeated
}

// removeFolder removes a folder with all that is in it. A disk that an administrator has mounted there is emptied, and stays mounted.
func removeFolder(dir string) error {
	err := os.RemoveAll(dir)
	if failed := (*os.PathError)(nil); errors.As(err, &failed) && errors.Is(err, unix.EBUSY) && isMountPoint(failed.Path) {
		return nil
	}
	return err
}

func isMountPoint(path string) bool {
	var st unix.Statx_t
	return unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st) == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
