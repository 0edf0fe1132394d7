package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// settle completes a layer with what only its parents know. parents are the folders of the layers
// below, the uppermost first.
func (u *unpacked) settle(parents []string) error {
	fd, err := unix.Open(u.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open layer: %w", err)
	}
	defer unix.Close(fd)
	u.rootFD = fd
	below := Tree(parents)
	for dir := range u.implicit {
		if err := u.inheritDir(below, dir); err != nil {
			return fmt.Errorf("take over folder %q: %w", dir, err)
		}
	}
	for name, target := range u.links {
		if err := u.inheritFile(below, name, target); err != nil {
			return fmt.Errorf("link %q to %q: %w", name, target, err)
		}
	}
	return nil
}

func (u *unpacked) inheritDir(below Tree, dir string) error {
	var stat unix.Stat_t
	found, err := below.locate(dir)
	if err != nil || unix.Lstat(found, &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil // nothing below: what was made stands
	}
	fd, err := unix.Openat2(u.rootFD, dir, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil // a later entry replaced the folder
	}
	defer unix.Close(fd)
	target := procPath(fd, "")
	if err := unix.Chown(target, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(target, stat.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{stat.Atim, stat.Mtim}, 0)
}

func (u *unpacked) inheritFile(below Tree, name, target string) error {
	from, err := below.Open(target)
	if err != nil {
		return err
	}
	defer from.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &stat); err != nil {
		return err
	}
	parent, err := u.openParent(path.Dir(name))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	fd, err := unix.Openat(parent, path.Base(name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(fd), name)
	n, err := io.Copy(to, from)
	u.bytes += n
	u.inodes++
	return errors.Join(err, to.Chown(int(stat.Uid), int(stat.Gid)), unix.Fchmod(fd, stat.Mode&0o7777), to.Close())
}

// Tree reads files of a root file system from its unmounted layers, the uppermost first.
type Tree []string

// locate finds the layer entry that shows at a path, itself not following a link at the end; folders
// on the way must be folders.
func (t Tree) locate(name string) (string, error) {
	name = path.Clean("/" + name)[1:]
	for _, layer := range t {
		found, verdict := lookInLayer(layer, name)
		switch verdict {
		case present:
			return found, nil
		case hidden:
			return "", os.ErrNotExist
		}
	}
	return "", os.ErrNotExist
}

type verdict int

const (
	absent  verdict = iota // the layer says nothing: look below
	present                // the layer shows it
	hidden                 // the layer hides what is below
)

// lookInLayer walks a path in one layer.
func lookInLayer(layer, name string) (string, verdict) {
	at := layer
	opaque := isOpaque(at)
	rest := name
	for rest != "" {
		var part string
		part, rest, _ = cutPath(rest)
		at = filepath.Join(at, part)
		var stat unix.Stat_t
		if err := unix.Lstat(at, &stat); err != nil {
			if opaque {
				return "", hidden
			}
			return "", absent
		}
		kind := stat.Mode & unix.S_IFMT
		if kind == unix.S_IFCHR && stat.Rdev == 0 {
			return "", hidden
		}
		if rest != "" && kind != unix.S_IFDIR {
			return "", hidden
		}
		opaque = opaque || (kind == unix.S_IFDIR && isOpaque(at))
	}
	return at, present
}

func cutPath(name string) (first, rest string, more bool) {
	for i := range len(name) {
		if name[i] == '/' {
			return name[:i], name[i+1:], true
		}
	}
	return name, "", false
}

func isOpaque(dir string) bool {
	var value [1]byte
	n, err := unix.Lgetxattr(dir, opaqueXattr, value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// resolve finds what shows at a path, following links as the root file system's own.
func (t Tree) resolve(name string) (string, error) {
	resolved := ""
	rest := path.Clean("/" + name)[1:]
	for hops := 0; rest != ""; {
		var part string
		part, rest, _ = cutPath(rest)
		if part == ".." {
			resolved = path.Dir("/" + resolved)[1:]
			continue
		}
		next := path.Join(resolved, part)
		at, err := t.locate(next)
		if err != nil {
			return "", err
		}
		target, err := os.Readlink(at)
		if err != nil {
			resolved = next
			continue
		}
		if hops++; hops > 40 {
			return "", unix.ELOOP
		}
		if path.IsAbs(target) {
			resolved = ""
		}
		rest = path.Join(target, rest)
		for len(rest) > 0 && rest[0] == '/' {
			rest = rest[1:]
		}
	}
	return t.locate(resolved)
}

// CheckFolder tells why a path leads to no folder.
func (t Tree) CheckFolder(name string) error {
	at, err := t.resolve(name)
	if err != nil {
		return fmt.Errorf("open %s in image: %w", name, err)
	}
	var stat unix.Stat_t
	if err := unix.Lstat(at, &stat); err != nil {
		return fmt.Errorf("look at %s in image: %w", name, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("only directory subpath is supported, subpath: %q", name)
	}
	return nil
}

// Open opens a regular file by its path.
func (t Tree) Open(name string) (*os.File, error) {
	at, err := t.resolve(name)
	if err != nil {
		return nil, fmt.Errorf("open %s in image: %w", name, err)
	}
	fd, err := unix.Open(at, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s in image: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), at)
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, fmt.Errorf("open %s in image: not a regular file", name)
	}
	return file, nil
}

// Tree returns the image's files.
func (s *Store) Tree(lower []string) Tree {
	tree := make(Tree, len(lower))
	for i, dir := range lower {
		tree[i] = filepath.Join(s.LayerDir(), dir)
	}
	return tree
}
