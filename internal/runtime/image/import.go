package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerdName is the annotation under which containerd notes an image's full name in an index.
const containerdName = "io.containerd.image.name"

// Import reads an archive of images, as "docker save" or an OCI layout in a tar file makes them,
// compressed or not, and returns the names of the images; of one without a name, its ID.
func (s *Store) Import(ctx context.Context, r io.Reader) ([]string, error) {
	a, err := s.openArchive(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("read image archive: %w", err)
	}
	defer a.close()
	var names []string
	switch {
	case a.has("manifest.json"):
		names, err = s.importDocker(ctx, a)
	case a.has("index.json"):
		names, err = s.importOCI(ctx, a)
	default:
		return nil, errors.New("read image archive: it holds neither manifest.json nor index.json; is it an image archive?")
	}
	if err == nil && len(names) == 0 {
		err = errors.New("read image archive: it holds no image")
	}
	return names, err
}

// archive gives access to the files of a tar archive in any order.
type archive struct {
	file  *os.File
	files map[string]span
}

type span struct{ offset, size int64 }

// openArchive copies the archive to a temporary file, since its parts are needed in another order than they come.
func (s *Store) openArchive(ctx context.Context, r io.Reader) (*archive, error) {
	plain, closePlain, err := decompress(&contextReader{ctx, r})
	if err != nil {
		return nil, err
	}
	defer closePlain()
	file, err := os.CreateTemp(s.ingestDir(), "archive-")
	if err != nil {
		return nil, err
	}
	a := &archive{file: file, files: map[string]span{}}
	// The open file is all that is needed; nothing is left behind after a crash.
	err = os.Remove(file.Name())
	if err == nil {
		_, err = io.Copy(file, plain)
	}
	if err == nil {
		err = a.scan()
	}
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *archive) close() { a.file.Close() }

func (a *archive) scan() error {
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	links := map[string]string{}
	reader := tar.NewReader(a.file)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := path.Clean("/" + header.Name)[1:]
		switch header.Typeflag {
		case tar.TypeReg:
			offset, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.files[name] = span{offset, header.Size}
		case tar.TypeSymlink: // older archives name a repeated layer so
			links[name] = path.Join("/", path.Dir(name), header.Linkname)[1:]
		case tar.TypeLink:
			links[name] = path.Clean("/" + header.Linkname)[1:]
		}
	}
	for name, target := range links {
		if at, ok := a.files[target]; ok {
			a.files[name] = at
		}
	}
	return nil
}

func (a *archive) has(name string) bool {
	_, ok := a.files[name]
	return ok
}

func (a *archive) open(name string) (*io.SectionReader, error) {
	at, ok := a.files[path.Clean("/" + name)[1:]]
	if !ok {
		return nil, fmt.Errorf("image archive lacks %s", name)
	}
	return io.NewSectionReader(a.file, at.offset, at.size), nil
}

func (a *archive) read(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > maxDocumentBytes {
		return nil, fmt.Errorf("%s of the image archive is larger than %d bytes", name, maxDocumentBytes)
	}
	return io.ReadAll(r)
}

func (a *archive) readJSON(name string, into any) error {
	data, err := a.read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s of the image archive: %w", name, err)
	}
	return nil
}

// source gives a layer of the archive.
func (a *archive) source(name string) source {
	return func(context.Context) (io.ReadCloser, error) {
		r, err := a.open(name)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(r), nil
	}
}

func (s *Store) importDocker(ctx context.Context, a *archive) ([]string, error) {
	var manifests []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := a.readJSON("manifest.json", &manifests); err != nil {
		return nil, err
	}
	var names []string
	for _, manifest := range manifests {
		config, err := a.read(manifest.Config)
		if err != nil {
			return names, err
		}
		var tags []reference.Named
		for _, tag := range manifest.RepoTags {
			named, err := normalize(tag)
			if err != nil {
				return names, err
			}
			tags = append(tags, named)
		}
		var sources []source
		size := int64(len(config))
		for _, layer := range manifest.Layers {
			sources = append(sources, a.source(layer))
			size += a.files[path.Clean("/" + layer)[1:]].size
		}
		img, err := s.build(ctx, config, digest.FromBytes(config), sources, size, tags, "")
		if err != nil {
			return names, fmt.Errorf("import image %v: %w", manifest.RepoTags, err)
		}
		names = append(names, namesOf(img, tags)...)
	}
	return names, nil
}

func namesOf(img *Image, tags []reference.Named) []string {
	if len(tags) == 0 {
		return []string{img.ID}
	}
	names := make([]string, len(tags))
	for i, tag := range tags {
		names[i] = tag.String()
	}
	return names
}

func (s *Store) importOCI(ctx context.Context, a *archive) ([]string, error) {
	var index ocispec.Index
	if err := a.readJSON("index.json", &index); err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range index.Manifests {
		imported, err := s.importManifest(ctx, a, entry)
		if err != nil {
			return names, fmt.Errorf("import image %s: %w", entry.Digest, err)
		}
		names = append(names, imported...)
	}
	return names, nil
}

func (s *Store) importManifest(ctx context.Context, a *archive, entry ocispec.Descriptor) ([]string, error) {
	var tags []reference.Named
	for _, key := range []string{containerdName, ocispec.AnnotationRefName} {
		// The OCI annotation often holds a bare tag, which names nothing by itself.
		name := entry.Annotations[key]
		if named, err := normalize(name); err == nil && len(tags) == 0 && strings.ContainsAny(name, ":/") {
			tags = append(tags, named)
		}
	}
	manifest, err := a.manifest(entry.Digest)
	if err != nil {
		return nil, err
	}
	config, err := a.blob(manifest.Config.Digest)
	if err != nil {
		return nil, err
	}
	var sources []source
	size := manifest.Config.Size
	for _, layer := range manifest.Layers {
		if err := layer.Digest.Validate(); err != nil {
			return nil, err
		}
		sources = append(sources, a.source(blobPath(layer.Digest)))
		size += layer.Size
	}
	img, err := s.build(ctx, config, manifest.Config.Digest, sources, size, tags, entry.Digest)
	if err != nil {
		return nil, err
	}
	return namesOf(img, tags), nil
}

func blobPath(d digest.Digest) string {
	return filepath.Join("blobs", d.Algorithm().String(), d.Encoded())
}

// blob reads a small blob of the layout and verifies it.
func (a *archive) blob(want digest.Digest) ([]byte, error) {
	if err := want.Validate(); err != nil {
		return nil, err
	}
	data, err := a.read(blobPath(want))
	if err != nil {
		return nil, err
	}
	if want.Algorithm().FromBytes(data) != want {
		return nil, fmt.Errorf("content of %s does not have that digest", want)
	}
	return data, nil
}

// manifest descends to the manifest for this machine.
func (a *archive) manifest(want digest.Digest) (*manifestDocument, error) {
	for range 4 {
		data, err := a.blob(want)
		if err != nil {
			return nil, err
		}
		document, err := parseManifest(data)
		if err != nil {
			return nil, fmt.Errorf("read manifest %s: %w", want, err)
		}
		if len(document.Manifests) == 0 {
			return document, nil
		}
		chosen := choosePlatform(document.Manifests)
		if chosen == nil {
			return nil, fmt.Errorf("%w: the image is not for this machine's platform", ErrNotFound)
		}
		want = chosen.Digest
	}
	return nil, errors.New("lists of manifests are nested too deeply")
}
