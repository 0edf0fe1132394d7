package volumes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// IsMountPoint tells whether a directory or file is one.
func IsMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	points, err := mountPoints(path)
	return slices.Contains(points, path), err
}

// mountPoints lists those at or below a directory, deepest first.
func mountPoints(root string) ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(root))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var out []string
	for _, m := range mounts {
		out = append(out, m.Mountpoint)
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

func mountTmpfs(dir, options string) error {
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, options+",noswap")
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.4 cannot keep it from swap
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, options)
	}
	if err != nil {
		return fmt.Errorf("mount tmpfs at %s: %w", dir, err)
	}
	return nil
}

// Unmount takes every mount off a directory. Absence is success.
func Unmount(dir string) error {
	for {
		mounted, err := IsMountPoint(dir)
		if err != nil || !mounted {
			return err
		}
		err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			// A process that escaped its pod's end must not keep the pod: the mount goes when its last user does.
			err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
}

func unmountTree(root string) error {
	if !there(root) {
		return nil
	}
	points, err := mountPoints(filepath.Clean(root))
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range points {
		errs = append(errs, Unmount(p))
	}
	return errors.Join(errs...)
}

// removeUnmounted deletes a directory tree that holds no mount.
func removeUnmounted(dir string) error {
	if !there(dir) {
		return nil
	}
	points, err := mountPoints(dir)
	if err != nil {
		return err
	}
	if len(points) > 0 {
		return fmt.Errorf("remove %s: %s is still mounted", dir, points[0])
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove a pod's directory: %w", err)
	}
	return nil
}

// there tells whether a path may exist. The list of mounts grows with the node's pods: it isn't read for what isn't there.
func there(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// Bind mounts what a path names, without following a link at its end, onto target, which exists.
func Bind(source, target string) error {
	fd, err := unix.Open(source, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", source, err)
	}
	defer unix.Close(fd)
	return bindFD(fd, target)
}

func bindFD(fd int, target string) error {
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind mount at %s: %w", target, err)
	}
	return nil
}
