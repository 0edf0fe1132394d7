package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// kernel is how the features that containers need are looked for.
type kernel struct {
	files fs.FS // the root folder, of which /proc and /sys are looked at
	// fileSystem fails with ENODEV for one that the kernel does not have and cannot load.
	fileSystem func(name string) error
	packets    func() error // asks for the packet filter's tables
}

// thisKernel is the one that runs.
func thisKernel() kernel {
	return kernel{files: os.DirFS("/"), fileSystem: openFileSystem, packets: openPacketFilter}
}

// openFileSystem has the kernel load a file system's module. It mounts nothing.
func openFileSystem(name string) error {
	fd, err := unix.Fsopen(name, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func openPacketFilter() error {
	_, err := (&nftables.Conn{}).ListTables()
	return err
}

// check tells in one line which feature is missing, and what to do.
func (k kernel) check() error {
	for _, ns := range []string{"net", "mnt", "pid", "ipc", "uts", "cgroup"} {
		if _, err := fs.Stat(k.files, "proc/self/ns/"+ns); err != nil {
			return fmt.Errorf("this kernel has no %s namespaces, which containers need: boot one that was built with them", ns)
		}
	}
	switch err := k.fileSystem("overlay"); {
	case errors.Is(err, unix.ENOSYS):
		return errors.New("this kernel is too old: Clipper needs Linux 5.6 or later")
	case err != nil:
		return fmt.Errorf("this kernel has no overlay file system (%w), which images need: install its module \"overlay\"", err)
	}
	if err := k.packets(); err != nil {
		return fmt.Errorf("this kernel has no nftables (%w), which Services need: install its module \"nf_tables\"", err)
	}
	return k.checkCgroups()
}

func (k kernel) checkCgroups() error {
	if _, err := fs.Stat(k.files, "sys/fs/cgroup/cgroup.controllers"); err == nil {
		return nil
	}
	f, err := k.files.Open("proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read the mounts: %w", err)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, mountinfo.FSTypeFilter("cgroup"))
	if err != nil {
		return fmt.Errorf("read the mounts: %w", err)
	}
	var mounted []string
	for _, m := range mounts {
		mounted = append(mounted, strings.Split(m.VFSOptions, ",")...)
	}
	for _, controller := range []string{"cpu", "memory", "pids", "freezer", "devices"} {
		if !slices.Contains(mounted, controller) {
			return fmt.Errorf("the cgroup controller %q is not mounted below /sys/fs/cgroup, and containers need it: mount it there, or boot with cgroup v2", controller)
		}
	}
	return nil
}
