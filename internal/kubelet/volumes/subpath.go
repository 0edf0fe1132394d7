package volumes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// subPath makes one file or directory of a volume mountable by itself. A pod may put links into its volume while we look, so nothing is
// reached by name twice: the kernel resolves the path beneath the volume's root and refuses to leave it, and what it found is bound by
// descriptor to a place that the pod cannot reach. What doesn't exist is made as a directory.
func (m *Manager) subPath(uid types.UID, volume, container string, index int, root, path string) (string, error) {
	if filepath.IsAbs(path) {
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", path)
	}
	for _, part := range strings.Split(path, "/") {
		if part == ".." {
			return "", fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", path)
		}
	}
	fd, err := openBeneath(root, path)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", fmt.Errorf("look at subpath %s: %w", path, err)
	}
	target := filepath.Join(m.PodDir(uid), subPathsDir, volume, container, strconv.Itoa(index))
	if err := clearTarget(target); err != nil {
		return "", err
	}
	if err := makeTarget(target, st.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
		return "", err
	}
	return target, bindFD(fd, target)
}

// openBeneath opens a path below root, making directories that are missing. No link leads out.
func openBeneath(root, path string) (int, error) {
	info, err := os.Stat(root)
	if err != nil {
		return -1, fmt.Errorf("open volume: %w", err)
	}
	if info.IsDir() {
		if err := makeBeneath(root, path); err != nil {
			return -1, err
		}
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open volume %s: %w", root, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return -1, fmt.Errorf("failed to prepare subPath %q of volume: %w", path, err)
	}
	return fd, nil
}

func makeBeneath(dir, path string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open volume: %w", err)
	}
	defer root.Close()
	if _, err := root.Stat(path); err == nil || !errors.Is(err, os.ErrNotExist) {
		return nil // there, or not reachable, which opening will tell
	}
	// New directories get the permissions of the volume's own top.
	info, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("look at volume: %w", err)
	}
	made := ""
	for _, part := range strings.Split(filepath.Clean(path), "/") {
		made = filepath.Join(made, part)
		err := root.Mkdir(made, info.Mode().Perm())
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("make subPath directory: %w", err)
		}
		if err := root.Chmod(made, info.Mode()&(os.ModePerm|os.ModeSetuid|os.ModeSetgid|os.ModeSticky)); err != nil {
			return fmt.Errorf("make subPath directory: %w", err)
		}
	}
	return nil
}

func makeTarget(target string, isDir bool) error {
	parent := target
	if !isDir {
		parent = filepath.Dir(target)
	}
	if err := os.MkdirAll(parent, dirMode); err != nil {
		return fmt.Errorf("make subpath target: %w", err)
	}
	if isDir {
		return nil
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("make subpath target: %w", err)
	}
	return f.Close()
}

// clearTarget takes away what an earlier start of the container left.
func clearTarget(target string) error {
	if err := Unmount(target); err != nil {
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clear subpath target: %w", err)
	}
	return nil
}

func (m *Manager) unmountSubPaths(uid types.UID) error {
	return unmountTree(filepath.Join(m.PodDir(uid), subPathsDir))
}
