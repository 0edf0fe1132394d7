package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/keeper/wire"
)

// A container in a user namespace may not open the layers of its image, which belong to the node's
// root user. Its file systems are therefore mounted by the keeper, with the owners of the layers shown
// as the container's own; they lie in the keeper's private mount folder until the container is removed.

// mountMapped mounts the root file system and the image volumes of such a container.
func (s *Server) mountMapped(request *wire.Start, userns *os.File) error {
	root := request.Rootfs
	options := ",upperdir=" + root.Upper + ",workdir=" + root.Work
	if err := s.mountMappedOverlay(request.ID, root.Base, root.Lower, options, 0, request.Spec.Root.Path, userns); err != nil {
		return fmt.Errorf("mount the root file system: %w", err)
	}
	for _, volume := range request.Volumes {
		target := filepath.Join(s.volumeDir(request.ID), volume.Name)
		lower := volume.Lower
		if len(lower) == 1 {
			lower = append(lower, "../empty")
		}
		if err := s.mountMappedOverlay(request.ID, volume.Base, lower, "", unix.MS_RDONLY, target, userns); err != nil {
			return fmt.Errorf("mount image volume %s: %w", volume.Name, err)
		}
		if err := showPart(target, volume.SubPath); err != nil {
			return fmt.Errorf("mount image volume %s: %w", volume.Name, err)
		}
	}
	return nil
}

func (s *Server) mountMappedOverlay(id, base string, lower []string, options string, flags uintptr, target string, userns *os.File) error {
	dir := filepath.Join(s.mountDir(), "mapped", id)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("create mount point: %w", err)
	}
	defer removeMounts(dir)
	var names []string
	for i, layer := range lower {
		name := strconv.Itoa(i)
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o711); err != nil {
			return fmt.Errorf("create mount point: %w", err)
		}
		if err := mapLayer(filepath.Join(base, layer), at, userns); err != nil {
			return err
		}
		names = append(names, at)
	}
	data := "lowerdir=" + strings.Join(names, ":") + options
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("%d layers are too many", len(lower))
	}
	return unix.Mount("overlay", target, "overlay", flags, data)
}

// mapLayer shows a layer with its owners mapped into the user namespace.
func mapLayer(layer, at string, userns *os.File) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, layer, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone the mount of a layer: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("map the owners of a layer: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("place a layer: %w", err)
	}
	return nil
}

// removeMounts unmounts what lies directly in a folder, and deletes the folder.
func removeMounts(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read mount points: %w", err)
	}
	for _, entry := range entries {
		if err := removeMount(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}

// removeMount unmounts whatever is mounted at a folder, and deletes the folder.
func removeMount(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == nil {
			continue // one more may lie below
		}
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		break
	}
	// Never recursively: if a mount were left, its content would be deleted.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove mount point: %w", err)
	}
	return nil
}
