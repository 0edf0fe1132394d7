package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive is as much of tar as "kubectl cp" asks for: "cf - PATH" and "-xmf - [-C FOLDER]".
func archive(args []string, in io.Reader, out io.Writer) error {
	var extract bool
	var file string
	folder := "."
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-C" && i+1 < len(args):
			i++
			folder = args[i]
		case arg == "-" || strings.HasPrefix(arg, "--"):
		case i == 0 || strings.HasPrefix(arg, "-"):
			extract = extract || strings.Contains(arg, "x")
		default:
			file = arg
		}
	}
	if extract {
		return unpack(in, folder)
	}
	if file == "" {
		return errors.New("tar: name the file to read")
	}
	return packTree(out, file)
}

// packTree writes a file, or a folder with all that is in it.
func packTree(out io.Writer, file string) error {
	w := tar.NewWriter(out)
	err := filepath.WalkDir(file, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return packFile(w, name)
	})
	return errors.Join(err, w.Close())
}

func packFile(w *tar.Writer, name string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(name); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return fmt.Errorf("tar %s: %w", name, err)
	}
	h.Name = strings.TrimPrefix(name, "/")
	if info.IsDir() {
		h.Name += "/"
	}
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// unpack writes the files of an archive below a folder, and nothing outside it.
func unpack(in io.Reader, folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := unpackFile(root, h, r); err != nil {
			return fmt.Errorf("extract %s: %w", h.Name, err)
		}
	}
}

func unpackFile(root *os.Root, h *tar.Header, body io.Reader) error {
	name, mode := path.Clean(h.Name), fs.FileMode(h.Mode).Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, body)
		return errors.Join(err, f.Close())
	}
	return fmt.Errorf("a file of type %q is not copied", h.Typeflag)
}
