package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	opaqueXattr    = "trusted.overlay.opaque"
)

// unpacked is a layer that was extracted by itself. Two things it cannot know alone: the owner and mode
// of a folder that the archive does not list but has entries below, and the content of a hard link to
// a file of a lower layer. settle takes both from its parents.
type unpacked struct {
	temporary string // to be deleted
	root      string // the layer
	rootFD    int
	implicit  map[string]bool   // folders that the archive implied
	links     map[string]string // hard links whose target is not in this layer
	dirTimes  []dirTime
	bytes     int64
	inodes    int64
}

type dirTime struct {
	path string
	time time.Time
}

// extract writes an archive below the root. Each entry's folder is resolved by the kernel with the root
// as its "/", so neither "..", absolute links nor a link that was planted by an earlier entry leads out.
func (u *unpacked) extract(r io.Reader) error {
	if err := os.Mkdir(u.root, 0o755); err != nil {
		return fmt.Errorf("create layer: %w", err)
	}
	fd, err := unix.Open(u.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open layer: %w", err)
	}
	defer unix.Close(fd)
	u.rootFD = fd
	u.implicit = map[string]bool{".": true}
	u.links = map[string]string{}
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return u.setDirTimes()
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := u.entry(header, archive); err != nil {
			return fmt.Errorf("unpack %q: %w", header.Name, err)
		}
	}
}

// entry writes one entry of the archive.
func (u *unpacked) entry(header *tar.Header, content io.Reader) error {
	name := path.Clean("/" + header.Name)[1:]
	if name == "" {
		if header.Typeflag == tar.TypeDir {
			delete(u.implicit, ".")
			return u.finishEntry(u.rootFD, "", ".", header)
		}
		return nil
	}
	switch header.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo, tar.TypeGNUSparse:
	default:
		return fmt.Errorf("entry of unknown type %q", header.Typeflag)
	}
	parent, err := u.openParent(path.Dir(name))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	base := path.Base(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(parent, base)
	}
	cleared, err := u.makeWay(parent, base, header)
	if err != nil {
		return err
	}
	done, err := u.create(parent, base, name, header, content)
	if err != nil || done {
		return err
	}
	if cleared && header.Typeflag == tar.TypeDir {
		// The folder replaces something of a lower layer that this layer had deleted.
		if err := setXattr(parent, base, opaqueXattr, []byte("y")); err != nil {
			return err
		}
	}
	return u.finishEntry(parent, base, name, header)
}

// openParent opens a folder of the layer and makes what is missing of it.
func (u *unpacked) openParent(dir string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(u.rootFD, dir, &how)
	if err == nil {
		return fd, nil
	}
	if !errors.Is(err, unix.ENOENT) || dir == "." {
		return -1, fmt.Errorf("open folder %q: %w", dir, err)
	}
	above, err := u.openParent(path.Dir(dir))
	if err != nil {
		return -1, err
	}
	defer unix.Close(above)
	if err := unix.Mkdirat(above, path.Base(dir), 0o755); err != nil {
		return -1, fmt.Errorf("create folder %q: %w", dir, err)
	}
	u.implicit[dir] = true
	u.inodes++
	return unix.Openat2(above, path.Base(dir), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

// whiteout records that a name of the lower layers is deleted, in overlayfs's way.
func (u *unpacked) whiteout(parent int, base string) error {
	if base == opaqueMarker {
		return setXattr(parent, ".", opaqueXattr, []byte("y"))
	}
	if strings.HasPrefix(base, ".wh..wh.") {
		return nil // bookkeeping of another file system
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return errors.New("malformed whiteout")
	}
	err := unix.Mknodat(parent, hidden, unix.S_IFCHR, 0)
	if errors.Is(err, unix.EEXIST) {
		return nil // the layer brings its own, which hides the lower one already
	}
	u.inodes++
	return err
}

// makeWay removes what an earlier entry put at the name, unless both are folders. It tells whether that was a whiteout.
func (u *unpacked) makeWay(parent int, base string, header *tar.Header) (whiteout bool, err error) {
	var stat unix.Stat_t
	err = unix.Fstatat(parent, base, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		if header.Typeflag == tar.TypeDir {
			return false, nil
		}
		root, err := os.OpenRoot(procPath(parent, ""))
		if err != nil {
			return false, err
		}
		defer root.Close()
		return false, root.RemoveAll(base)
	}
	return stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0, unix.Unlinkat(parent, base, 0)
}

// create makes the entry itself; done tells that owner, mode and times are not to be set on it.
func (u *unpacked) create(parent int, base, name string, header *tar.Header, content io.Reader) (done bool, err error) {
	mode := uint32(header.Mode & 0o7777)
	switch header.Typeflag {
	case tar.TypeDir:
		delete(u.implicit, name)
		err = unix.Mkdirat(parent, base, mode)
		if errors.Is(err, unix.EEXIST) {
			return false, nil
		}
		u.inodes++
		return false, err
	case tar.TypeReg, tar.TypeGNUSparse:
		u.inodes++
		return false, u.writeFile(parent, base, header, content)
	case tar.TypeSymlink:
		u.inodes++
		return false, unix.Symlinkat(header.Linkname, parent, base)
	case tar.TypeLink:
		return true, u.link(parent, base, name, header.Linkname)
	case tar.TypeFifo:
		u.inodes++
		return false, unix.Mknodat(parent, base, unix.S_IFIFO|mode, 0)
	}
	kind := uint32(unix.S_IFBLK)
	if header.Typeflag == tar.TypeChar {
		kind = unix.S_IFCHR
		if header.Devmajor == 0 && header.Devminor == 0 {
			return true, nil // would be a whiteout; an archive spells those by name
		}
	}
	u.inodes++
	return false, unix.Mknodat(parent, base, kind|mode, int(unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor))))
}

func (u *unpacked) writeFile(parent int, base string, header *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), base)
	n, err := copySparse(file, content)
	u.bytes += n
	if err == nil && n < header.Size {
		err = file.Truncate(header.Size)
	}
	return errors.Join(err, file.Close())
}

// link makes a hard link to a file of this layer, or remembers one to a file of a lower layer.
func (u *unpacked) link(parent int, base, name, target string) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	clean := path.Clean("/" + target)[1:]
	if clean == "" {
		return errors.New("hard link to the root")
	}
	fd, err := unix.Openat2(u.rootFD, clean, &how)
	if errors.Is(err, unix.ENOENT) {
		u.links[name] = clean
		return nil
	}
	if err != nil {
		return fmt.Errorf("open link target %q: %w", target, err)
	}
	defer unix.Close(fd)
	return unix.Linkat(fd, "", parent, base, unix.AT_EMPTY_PATH)
}

// finishEntry sets owner, mode, extended attributes and times. base is empty for the folder itself.
func (u *unpacked) finishEntry(parent int, base, name string, header *tar.Header) error {
	target := procPath(parent, base)
	follow := base == ""
	chown, flags := unix.Lchown, unix.AT_SYMLINK_NOFOLLOW
	if follow {
		chown, flags = unix.Chown, 0
	}
	if err := chown(target, header.Uid, header.Gid); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	for key, value := range header.PAXRecords {
		if attr, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && allowedXattr(attr) {
			if err := setXattr(parent, base, attr, []byte(value)); err != nil {
				return err
			}
		}
	}
	if header.Typeflag == tar.TypeSymlink {
		return setTime(target, header.ModTime, flags)
	}
	// After the owner, whose change takes setuid away.
	if err := unix.Chmod(target, uint32(header.Mode&0o7777)); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	if header.Typeflag == tar.TypeDir {
		u.dirTimes = append(u.dirTimes, dirTime{name, header.ModTime})
		return nil
	}
	return setTime(target, header.ModTime, flags)
}

// allowedXattr keeps an image from speaking to the overlay file system, or to the security modules of this machine.
func allowedXattr(name string) bool {
	return name == "security.capability" || (strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay."))
}

func setXattr(parent int, base, name string, value []byte) error {
	set := unix.Lsetxattr
	if base == "" || base == "." {
		set, base = unix.Setxattr, ""
	}
	err := set(procPath(parent, base), name, value, 0)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("set attribute %s: %w", name, err)
	}
	return nil
}

func setTime(target string, at time.Time, flags int) error {
	if at.IsZero() {
		return nil
	}
	stamp := unix.NsecToTimespec(at.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{stamp, stamp}, flags)
}

// setDirTimes comes last, since writing into a folder changes its time.
func (u *unpacked) setDirTimes() error {
	for _, dir := range u.dirTimes {
		fd, err := unix.Openat2(u.rootFD, dir.path, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != nil {
			continue // a later entry replaced the folder
		}
		err = setTime(procPath(fd, ""), dir.time, 0)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("set time of %q: %w", dir.path, err)
		}
	}
	return nil
}

// procPath names an entry of an open folder, for calls that take no descriptor.
func procPath(parent int, base string) string {
	return filepath.Join(fmt.Sprintf("/proc/self/fd/%d", parent), base)
}
