// Command images makes the test images that upstream's conformance suite asks for, under their upstream names, without
// an image registry: Go programs come from their modules, everything else from Debian packages.
//
//	images -out DIR     writes DIR/*.tar, one docker-archive for each image that isn't there yet
//
// Upstream builds most of these images on Alpine; here one Debian root file system, made by debootstrap, lies under all of
// them as a shared layer.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	out := flag.String("out", "out/images", "folder for the archives")
	flag.Parse()
	if err := run(*out); err != nil {
		log.Fatal(err)
	}
}

func run(out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	b, err := newBuilder(out)
	if err != nil {
		return err
	}
	for _, i := range images() {
		if err := b.write(i); err != nil {
			return fmt.Errorf("image %s: %w", i.names[0], err)
		}
	}
	return nil
}

// write makes one image's archive.
func (b *builder) write(i image) error {
	path := filepath.Join(b.out, strings.NewReplacer("/", "_", ":", "_").Replace(i.names[0])+".tar")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	img, err := b.build(i)
	if err != nil {
		return err
	}
	tags := map[name.Tag]v1.Image{}
	for _, n := range i.names {
		tag, err := name.NewTag(n)
		if err != nil {
			return err
		}
		tags[tag] = img
	}
	if err := tarball.MultiWriteToFile(path+".part", tags); err != nil {
		return err
	}
	fmt.Println(i.names[0])
	return os.Rename(path+".part", path)
}

func (b *builder) build(i image) (v1.Image, error) {
	img := empty.Image
	var layers []v1.Layer
	if i.onBase {
		base, err := b.base()
		if err != nil {
			return nil, err
		}
		layers = append(layers, base)
	}
	own, err := b.layer(i)
	if err != nil {
		return nil, err
	}
	img, err = mutate.AppendLayers(img, append(layers, own)...)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config = "linux", "amd64", i.config
	if len(cfg.Config.Env) == 0 {
		cfg.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	return mutate.ConfigFile(img, cfg)
}
