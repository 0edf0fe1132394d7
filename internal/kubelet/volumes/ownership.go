package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

const (
	groupReadWrite = 0o660
	groupRead      = 0o440
	groupExecute   = 0o110
)

// ChownGroup gives a volume's contents to a group: group ID, group permissions, and the set-group-ID bit on directories, so that new files belong to it too.
// Links are not followed. A policy of OnRootMismatch leaves contents alone when the top directory is right already.
func ChownGroup(dir string, group *int64, policy *corev1.PodFSGroupChangePolicy, readOnly bool) error {
	if group == nil {
		return nil
	}
	if policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch {
		if ok, err := rootMatches(dir, *group, readOnly); err != nil || ok {
			return err
		}
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return skipGone(err)
		}
		return skipGone(chownOne(path, *group, readOnly))
	})
}

// skipGone forgives what was deleted while we walked: the pod may be at work.
func skipGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func chownOne(path string, group int64, readOnly bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if err := os.Lchown(path, -1, int(group)); err != nil {
		return fmt.Errorf("give %s to group %d: %w", path, group, err)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	// Through a descriptor, so that a link put in the file's place is not followed.
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), st.Mode&0o7777|groupMode(st.Mode, readOnly)); err != nil {
		return fmt.Errorf("give %s to group %d: %w", path, group, err)
	}
	return nil
}

func groupMode(mode uint32, readOnly bool) uint32 {
	mask := uint32(groupReadWrite)
	if readOnly {
		mask = groupRead
	}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		mask |= unix.S_ISGID | groupExecute
	}
	return mask
}

func rootMatches(dir string, group int64, readOnly bool) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", dir, err)
	}
	want := groupMode(st.Mode, readOnly)
	return int64(st.Gid) == group && st.Mode&want == want, nil
}
