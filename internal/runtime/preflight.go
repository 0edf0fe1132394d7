package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkKernel finds out at once what would otherwise fail with every container.
func checkKernel(cfg Config) error {
	if os.Geteuid() != 0 {
		return errors.New("the container runtime needs root")
	}
	if _, err := os.Stat("/proc/self/ns/net"); err != nil {
		return errors.New("the kernel has no network namespaces")
	}
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err != nil {
		return errors.New("the kernel is too old: process descriptors (Linux 5.3) are missing")
	} else {
		unix.Close(fd)
	}
	if fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC}); err != nil {
		return errors.New("the kernel is too old: openat2 (Linux 5.6) is missing")
	} else {
		unix.Close(fd)
	}
	return checkOverlay(cfg.StateDir)
}

// checkOverlay tries an overlay mount with its upper layer where containers will have theirs.
func checkOverlay(stateDir string) (err error) {
	base, err := os.MkdirTemp(stateDir, "overlay-check-")
	if err != nil {
		return fmt.Errorf("write to the state folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	for _, dir := range []string{"lower", "upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o700); err != nil {
			return fmt.Errorf("write to the state folder: %w", err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", base, base, base)
	if err := unix.Mount("overlay", filepath.Join(base, "root"), "overlay", 0, options); err != nil {
		return fmt.Errorf("overlayfs does not work in %s (%w); the state folder must be on a file system such as ext4 or xfs", stateDir, err)
	}
	if err := unix.Unmount(filepath.Join(base, "root"), unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the overlay check: %w", err)
	}
	return nil
}
