package main

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// fakeRegistry is the folder that agnhost serves as a registry: blobs and manifests by their digests, tags with the digests that they name. Of upstream's
// images it has one, too.
func (b *builder) fakeRegistry() ([]file, error) {
	const folder, name, tag = "var/registry/pause", "registry.k8s.io/pause:3.10.2", "testing"
	list := images()
	img, err := b.build(list[slices.IndexFunc(list, func(i image) bool { return i.names[0] == name })])
	if err != nil {
		return nil, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	configDigest, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	files := []file{
		{path: path.Join(folder, "manifests", tag), text: digest.String() + "\n", mode: 0o644},
		{path: stored(folder, "manifests", digest), text: string(manifest), mode: 0o644},
		{path: stored(folder, "blobs", configDigest), text: string(config), mode: 0o644},
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		blob, err := layerFile(folder, l)
		if err != nil {
			return nil, fmt.Errorf("a layer of %s: %w", name, err)
		}
		files = append(files, blob)
	}
	return files, nil
}

func layerFile(folder string, l v1.Layer) (file, error) {
	digest, err := l.Digest()
	if err != nil {
		return file{}, err
	}
	r, err := l.Compressed()
	if err != nil {
		return file{}, err
	}
	defer r.Close()
	var data strings.Builder
	if _, err := io.Copy(&data, r); err != nil {
		return file{}, err
	}
	return file{path: stored(folder, "blobs", digest), text: data.String(), mode: 0o644}, nil
}

func stored(folder, kind string, h v1.Hash) string {
	return path.Join(folder, kind, h.Algorithm, h.Hex[:2], h.Hex, "data")
}
