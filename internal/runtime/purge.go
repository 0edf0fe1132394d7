package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper"
	"clipper.dev/clipper/internal/runtime/container"
)

// Purge ends everything that a runtime with this configuration started and deletes everything it made:
// containers, the keeper, mounts, cgroups and both folders. The runtime itself must have ended. What it did
// for pods' networks is the network's to take away.
func Purge(ctx context.Context, cfg Config) error {
	if err := Stop(ctx, cfg); err != nil {
		return err // a folder with a mount in it must not be deleted
	}
	for _, dir := range []string{cfg.RunDir, cfg.StateDir} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("purge: %w", err)
		}
	}
	return nil
}

// Stop ends everything that a runtime with this configuration started: containers, the keeper, mounts and cgroups. Its
// folders stay, with the images. The runtime itself must have ended.
func Stop(ctx context.Context, cfg Config) error {
	client := keeper.NewClient(filepath.Join(cfg.RunDir, "keeper"))
	defer client.Close()
	if hello, err := client.Hello(ctx); err == nil {
		process, err := unix.PidfdOpen(hello.PID, 0)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("open the keeper, process %d: %w", hello.PID, err)
		}
		if err := endKeeper(ctx, client); err != nil {
			return err
		}
		if err := awaitEnd(ctx, process); err != nil {
			return fmt.Errorf("wait for the keeper's end: %w", err)
		}
	}
	return errors.Join(UnmountBelow(cfg.RunDir), UnmountBelow(cfg.StateDir), RemoveCgroups(cfg.CgroupRoot))
}

// endKeeper removes all containers and sandboxes, then the keeper.
func endKeeper(ctx context.Context, client *keeper.Client) error {
	state, err := client.State(ctx)
	if err != nil {
		return err
	}
	for _, c := range state.Containers {
		if err := client.RemoveContainer(ctx, c.ID); err != nil {
			return fmt.Errorf("purge container %s: %w", c.ID, err)
		}
	}
	for _, sb := range state.Sandboxes {
		if err := client.RemoveSandbox(ctx, sb.ID); err != nil {
			return fmt.Errorf("purge sandbox %s: %w", sb.ID, err)
		}
	}
	return client.End(ctx)
}

// awaitEnd waits until a process has ended, and closes its descriptor; -1 is one that had ended before.
func awaitEnd(ctx context.Context, process int) error {
	if process < 0 {
		return nil
	}
	defer unix.Close(process)
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, 1000)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return ctx.Err()
}

// UnmountBelow unmounts what is mounted in a folder, the innermost first, and the folder itself if it was mounted onto itself. A disk that
// is mounted there is the administrator's.
func UnmountBelow(dir string) error {
	found, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		onItself := m.Mountpoint == dir && m.Root != "/" && strings.HasSuffix(dir, m.Root)
		return !onItself && !strings.HasPrefix(m.Mountpoint, dir+"/"), false
	})
	if err != nil {
		return fmt.Errorf("read the mounts: %w", err)
	}
	for _, m := range slices.Backward(found) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
	}
	return nil
}

// RemoveCgroups deletes a tree of cgroups in every hierarchy; in version 2 there is one. Processes that are still in one are killed: they are containers'
// that their keeper did not outlive.
func RemoveCgroups(root string) error {
	if root == "" || strings.Trim(root, "/.") == "" {
		return errors.New("purge: no cgroup root is configured")
	}
	if container.UnifiedCgroups() {
		return removeCgroup(filepath.Join(cgroupRoot, root))
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return fmt.Errorf("read %s: %w", cgroupRoot, err)
	}
	var hierarchies []string
	for _, entry := range entries {
		if entry.IsDir() {
			hierarchies = append(hierarchies, filepath.Join(cgroupRoot, entry.Name()))
		}
	}
	var errs []error
	for _, hierarchy := range hierarchies {
		errs = append(errs, removeCgroup(filepath.Join(hierarchy, root)))
	}
	return errors.Join(errs...)
}

func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeCgroup(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	// Killed processes take a moment to leave, and cgroup v1 has nothing to wait on.
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
	data, err := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}
