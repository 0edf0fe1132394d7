// Command pack makes the demonstration image from its program: pack PROGRAM ARCHIVE.
//
// Both versions share the one layer; they differ in their configuration's VERSION.
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"clipper.dev/clipper/internal/demo"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack PROGRAM ARCHIVE")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(program, archive string) error {
	layer, err := rootLayer(program)
	if err != nil {
		return err
	}
	images := map[name.Tag]v1.Image{}
	for _, ref := range demo.Images {
		tag, err := name.NewTag(ref)
		if err != nil {
			return err
		}
		if images[tag], err = image(layer, tag.TagStr()); err != nil {
			return err
		}
	}
	return tarball.MultiWriteToFile(archive, images)
}

func image(layer v1.Layer, version string) (v1.Image, error) {
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH // other runtimes leave an image of no platform aside
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return nil, err
	}
	return mutate.Config(img, v1.Config{
		Entrypoint:   []string{"/demo"},
		Env:          []string{"PATH=/", "VERSION=" + version},
		User:         "65532:65532",
		WorkingDir:   "/",
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "8080/udp": {}},
		Labels:       map[string]string{"org.opencontainers.image.title": "Clipper's demonstration", "org.opencontainers.image.version": version},
	})
}

// rootLayer holds the program, and what a process expects of a root file system.
func rootLayer(program string) (v1.Layer, error) {
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, body []byte) {
		h.Size, h.ModTime = int64(len(body)), time.Unix(0, 0)
		if err == nil {
			err = w.WriteHeader(&h)
		}
		if err == nil {
			_, err = w.Write(body)
		}
	}
	for _, dir := range []string{"dev", "etc", "proc", "run", "sys", "tmp", "var"} {
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		add(tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: mode}, nil)
	}
	add(tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/:/demo\nnonroot:x:65532:65532:nonroot:/:/demo\n"))
	add(tar.Header{Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\nnonroot:x:65532:\n"))
	add(tar.Header{Name: "etc/nsswitch.conf", Mode: 0o644}, []byte(strings.Join([]string{"hosts: files dns", ""}, "\n")))
	add(tar.Header{Name: "demo", Mode: 0o755}, data)
	add(tar.Header{Name: "tar", Typeflag: tar.TypeSymlink, Linkname: "demo"}, nil)
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	})
}
