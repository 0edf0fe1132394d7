package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// packages are what the specs' shells and tools come from.
const packages = "bash,curl,bind9-dnsutils,netcat-openbsd,iproute2,iperf,util-linux,procps,ca-certificates,iputils-ping,nginx-light,perl,stress,busybox-static"

// suite is newer than the machine's own Debian: its busybox passes on environment names that are no identifiers.
const suite = "trixie"

type builder struct {
	out       string
	rootfs    string
	baseLayer v1.Layer
	programs  map[string]string
}

func newBuilder(out string) (*builder, error) {
	abs, err := filepath.Abs(out)
	return &builder{out: abs, rootfs: filepath.Join(abs, "rootfs"), programs: map[string]string{}}, err
}

// debian makes the root file system once.
func (b *builder) debian() error {
	if _, err := os.Stat(b.rootfs); err == nil {
		return nil
	}
	fmt.Println("debootstrap", suite)
	part := b.rootfs + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	cmd := exec.Command("debootstrap", "--variant=minbase", "--include="+packages, suite, part)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("debootstrap: %w", err)
	}
	for _, dir := range []string{"var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "debootstrap", "var/log"} {
		if err := os.RemoveAll(filepath.Join(part, dir)); err != nil {
			return err
		}
	}
	return os.Rename(part, b.rootfs)
}

// base is the layer that the images share.
func (b *builder) base() (v1.Layer, error) {
	if b.baseLayer != nil {
		return b.baseLayer, nil
	}
	if err := b.debian(); err != nil {
		return nil, err
	}
	path := filepath.Join(b.out, "base.layer")
	if _, err := os.Stat(path); err != nil {
		if err := b.writeBase(path + ".part"); err != nil {
			return nil, err
		}
		if err := os.Rename(path+".part", path); err != nil {
			return nil, err
		}
	}
	var err error
	b.baseLayer, err = tarball.LayerFromFile(path)
	return b.baseLayer, err
}

func (b *builder) writeBase(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	err = filepath.WalkDir(b.rootfs, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == b.rootfs {
			return err
		}
		rel, err := filepath.Rel(b.rootfs, p)
		if err != nil {
			return err
		}
		if strings.HasPrefix(rel, "dev/") || strings.HasPrefix(rel, "proc/") {
			return nil
		}
		return addPath(w, p, rel)
	})
	return errors.Join(err, w.Close(), f.Close())
}

func addPath(w *tar.Writer, path, name string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, h.ModTime, h.AccessTime, h.ChangeTime = name, time.Unix(0, 0), time.Time{}, time.Time{}
	if info.IsDir() {
		h.Name += "/"
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid = int(st.Uid), int(st.Gid)
	}
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// layer is what an image has of its own.
func (b *builder) layer(i image) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	files := i.files
	if slices.ContainsFunc(files, func(f file) bool { return f.path == "bin/busybox" }) {
		applets, err := b.applets()
		if err != nil {
			return nil, err
		}
		files = append(files, applets...)
	}
	if slices.ContainsFunc(files, func(f file) bool { return f.path == "agnhost" }) {
		served, err := b.fakeRegistry()
		if err != nil {
			return nil, err
		}
		files = append(files, served...)
	}
	for _, f := range files {
		if err := b.add(w, f); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
}

func (b *builder) add(w *tar.Writer, f file) error {
	h := &tar.Header{Name: f.path, Mode: f.mode, ModTime: time.Unix(0, 0)}
	var data []byte
	var err error
	switch {
	case f.link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
	case f.program != "":
		data, err = b.program(f.program)
	case f.from != "":
		data, err = b.read(f.from)
	case f.text != "":
		data = []byte(f.text)
	default:
		h.Typeflag, h.Name = tar.TypeDir, f.path+"/"
	}
	if err != nil {
		return err
	}
	h.Size = int64(len(data))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// program compiles a Go package and returns the executable.
func (b *builder) program(pkg string) ([]byte, error) {
	path := filepath.Join(b.out, "bin", strings.ReplaceAll(pkg, "/", "_"))
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w: %s", pkg, err, out)
	}
	return os.ReadFile(path)
}

// read reads a file of a module, by its import path, or of the root file system.
func (b *builder) read(from string) ([]byte, error) {
	if path, ok := strings.CutPrefix(from, "rootfs:"); ok {
		if err := b.debian(); err != nil {
			return nil, err
		}
		return os.ReadFile(filepath.Join(b.rootfs, path))
	}
	const module = "k8s.io/kubernetes"
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return nil, fmt.Errorf("find module %s: %w", module, err)
	}
	return os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), strings.TrimPrefix(from, module)))
}

// applets are busybox's links.
func (b *builder) applets() ([]file, error) {
	if err := b.debian(); err != nil {
		return nil, err
	}
	out, err := exec.Command(filepath.Join(b.rootfs, "usr/bin/busybox"), "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	var files []file
	for _, name := range strings.Fields(string(out)) {
		if name != "busybox" && name != "sh" {
			files = append(files, file{path: "bin/" + name, link: "busybox"})
		}
	}
	return files, nil
}
