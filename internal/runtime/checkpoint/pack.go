package checkpoint

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// How an image's layer says what is deleted from those below, and how overlayfs keeps it.
const (
	whiteout      = ".wh."
	opaque        = ".wh..wh..opq"
	overlayPrefix = "trusted.overlay."
	overlayOpaque = overlayPrefix + "opaque"
	xattrRecord   = "SCHILY.xattr."
)

// writeArchive packs a folder into a file that only its owner reads. Half an archive is none.
func writeArchive(location, dir string) error {
	if err := pack(location, dir, false); err != nil {
		return errors.Join(fmt.Errorf("write the checkpoint's archive: %w", err), os.Remove(location))
	}
	return nil
}

// writeDiff packs an overlay's upper layer as a layer of an image.
func writeDiff(path, upper string) error { return pack(path, upper, true) }

func pack(path, dir string, layer bool) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	p := &packer{to: tar.NewWriter(file), root: root, layer: layer, linked: map[uint64]string{}}
	if err := fs.WalkDir(root.FS(), ".", p.add); err != nil {
		return err
	}
	return p.to.Close()
}

// packer writes a folder's files. A container may change them meanwhile: it opens them below the folder alone, whatever links
// there are, and leaves out what is gone.
type packer struct {
	to     *tar.Writer
	root   *os.Root
	layer  bool
	linked map[uint64]string // by inode, the first name of files that have several
}

func (p *packer) add(name string, entry fs.DirEntry, err error) error {
	if err == nil && name != "." {
		var info fs.FileInfo
		if info, err = entry.Info(); err == nil {
			err = p.write(name, info)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile
	}
	return err
}

func (p *packer) write(name string, info fs.FileInfo) error {
	stat := info.Sys().(*syscall.Stat_t)
	switch {
	case info.Mode()&fs.ModeSocket != 0:
		return nil // nothing without its process
	case p.layer && info.Mode()&fs.ModeCharDevice != 0 && stat.Rdev == 0:
		return p.mark(filepath.Join(filepath.Dir(name), whiteout+filepath.Base(name)), info)
	case info.Mode().IsRegular() || info.IsDir():
		return p.writeOpen(name, stat)
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = p.root.Readlink(name); err != nil {
			return err
		}
	}
	header, err := header(name, info, target)
	if err != nil {
		return err
	}
	return p.to.WriteHeader(header)
}

// mark writes an empty file whose name says something.
func (p *packer) mark(name string, info fs.FileInfo) error {
	return p.to.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, ModTime: info.ModTime()})
}

func header(name string, info fs.FileInfo, target string) (*tar.Header, error) {
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	if info.IsDir() {
		h.Name += "/"
	}
	return h, nil
}

// writeOpen writes a file or a folder by its descriptor.
func (p *packer) writeOpen(name string, seen *syscall.Stat_t) error {
	if first, again := p.linked[seen.Ino]; again {
		return p.to.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: first})
	}
	file, err := p.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() && !info.IsDir() {
		return err // something else has taken its place
	}
	h, err := header(name, info, "")
	if err != nil {
		return err
	}
	isOpaque, err := addXattrs(h, file)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := p.to.WriteHeader(h); err != nil {
		return err
	}
	if info.IsDir() {
		if p.layer && isOpaque {
			return p.mark(filepath.Join(name, opaque), info)
		}
		return nil
	}
	if seen.Nlink > 1 {
		p.linked[seen.Ino] = name
	}
	n, err := io.CopyN(p.to, file, h.Size)
	if errors.Is(err, io.EOF) { // it became shorter
		_, err = io.CopyN(p.to, zeros{}, h.Size-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// maxXattrBytes bounds the list of names, and each value, as the kernel does.
const maxXattrBytes = 64 << 10

// addXattrs takes a file's extended attributes into its header, and tells whether it's a folder that hides those below.
func addXattrs(h *tar.Header, file *os.File) (isOpaque bool, err error) {
	buffer := make([]byte, maxXattrBytes)
	n, err := unix.Flistxattr(int(file.Fd()), buffer)
	if errors.Is(err, unix.ENOTSUP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list extended attributes: %w", err)
	}
	names := string(bytes.TrimRight(buffer[:n], "\x00"))
	for name := range strings.SplitSeq(names, "\x00") {
		if name == "" {
			continue
		}
		n, err := unix.Fgetxattr(int(file.Fd()), name, buffer)
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			return false, fmt.Errorf("read extended attribute %s: %w", name, err)
		}
		if name == overlayOpaque {
			isOpaque = string(buffer[:n]) == "y"
		}
		if strings.HasPrefix(name, overlayPrefix) {
			continue
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrRecord+name] = string(buffer[:n])
	}
	return isOpaque, nil
}
