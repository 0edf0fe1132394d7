package volumes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// makeShared sees to it that what pods mount below a directory, as drivers of storage do, reaches the node. Most machines share all of their mounts; where
// not, the directory becomes a mount of its own that is shared. That is done only as long as nothing is mounted below: it would be hidden.
func makeShared(dir string) error {
	shared, err := isShared(dir)
	if err != nil || shared {
		return err
	}
	below, err := mountPoints(dir)
	if err != nil || len(slices.DeleteFunc(below, func(p string) bool { return p == dir })) > 0 {
		return err
	}
	if mounted, err := IsMountPoint(dir); err != nil {
		return err
	} else if !mounted {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("make %s a mount: %w", dir, err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts below %s: %w", dir, err)
	}
	return nil
}

// isShared tells whether mounts below a directory are propagated: that is so if the mount that it lies on is shared.
func isShared(dir string) (bool, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return false, fmt.Errorf("list mounts: %w", err)
	}
	longest, shared := "", false
	for _, m := range mounts {
		if point := m.Mountpoint; len(point) >= len(longest) && (point == dir || point == "/" || strings.HasPrefix(dir, point+"/")) {
			longest, shared = point, strings.Contains(m.Optional, "shared:")
		}
	}
	return shared, nil
}
