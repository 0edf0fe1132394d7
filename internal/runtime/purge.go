package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper"
)

// Purge ends everything that a runtime with this configuration started and deletes everything it made:
// containers, the keeper, mounts, cgroups and both folders. The runtime itself must have ended. What it did
// for pods' networks is the network's to take away.
func Purge(ctx context.Context, cfg Config) error {
	keeperRun := filepath.Join(cfg.RunDir, "keeper")
	client := keeper.NewClient(keeperRun)
	defer client.Close()
	if _, err := client.Hello(ctx); err == nil {
		if err := endKeeper(ctx, client); err != nil {
			return err
		}
	}
	var errs []error
	for _, dir := range []string{cfg.RunDir, cfg.StateDir} {
		errs = append(errs, unmountBelow(dir))
	}
	errs = append(errs, removeCgroups(cfg.CgroupRoot))
	if err := errors.Join(errs...); err != nil {
		return err // a folder with a mount in it must not be deleted
	}
	for _, dir := range []string{cfg.RunDir, cfg.StateDir} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("purge: %w", err)
		}
	}
	return nil
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

// unmountBelow unmounts what is mounted in a folder, the innermost first.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read the mounts: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && (fields[4] == dir || strings.HasPrefix(fields[4], dir+"/")) {
			found = append(found, fields[4])
		}
	}
	for i := len(found) - 1; i >= 0; i-- {
		if err := unix.Unmount(found[i], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", found[i], err)
		}
	}
	return nil
}

// removeCgroups deletes a tree of cgroups in every hierarchy; a cgroup is deleted as an empty folder is.
func removeCgroups(root string) error {
	if root == "" || strings.Trim(root, "/.") == "" {
		return errors.New("purge: no cgroup root is configured")
	}
	hierarchies := []string{cgroupRoot}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return fmt.Errorf("read %s: %w", cgroupRoot, err)
	}
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
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	return nil
}
