package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's schema 2, beside those of OCI.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

// maxDocumentBytes bounds manifests and configurations.
const maxDocumentBytes = 8 << 20

// pull is one in progress, which later callers for the same reference join.
type pull struct {
	done chan struct{}
	img  *Image
	err  error
}

// Pull fetches an image by its reference; credentials may be nil. Callers that want the same image with
// the same credentials at the same time share one transfer.
func (s *Store) Pull(ctx context.Context, ref string, registries Registries, auth *Auth) (*Image, error) {
	named, err := normalize(ref)
	if err != nil {
		return nil, err
	}
	key := named.String()
	if auth != nil {
		key += fmt.Sprintf("\x00%+v", *auth)
	}
	for {
		s.mu.Lock()
		running, ok := s.pulls[key]
		if !ok {
			running = &pull{done: make(chan struct{})}
			s.pulls[key] = running
			s.mu.Unlock()
			running.img, running.err = s.pull(ctx, named, registries, auth)
			s.mu.Lock()
			delete(s.pulls, key)
			s.mu.Unlock()
			close(running.done)
			return running.img, running.err
		}
		s.mu.Unlock()
		select {
		case <-running.done:
			if errors.Is(running.err, context.Canceled) && ctx.Err() == nil {
				continue // the caller that did the work gave up; this one has not
			}
			return running.img, running.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Store) pull(ctx context.Context, named reference.Named, registries Registries, auth *Auth) (*Image, error) {
	endpoints, err := registries.endpoints(reference.Domain(named), auth)
	if err != nil {
		return nil, err
	}
	if len(endpoints) == 0 {
		return nil, fmt.Errorf("pull %s: no mirror is configured, and the registry itself is not to be asked", named)
	}
	var first error
	for _, from := range endpoints {
		img, err := s.pullFrom(ctx, from, named)
		if err == nil {
			return img, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("pull %s: %w", named, context.Cause(ctx))
		}
		s.log.Debug("pull failed", "image", named.String(), "host", from.host, "error", err)
		// The registry itself is asked last; its answer says more than a mirror's.
		if first == nil || from.prefix == "" {
			first = err
		}
	}
	return nil, fmt.Errorf("failed to pull and unpack image %q: %w", named.String(), first)
}

func (s *Store) pullFrom(ctx context.Context, from endpoint, named reference.Named) (*Image, error) {
	repo, err := from.open(ctx, named)
	if err != nil {
		return nil, err
	}
	wanted := "latest"
	if tagged, ok := named.(reference.Tagged); ok {
		wanted = tagged.Tag()
	}
	var manifestDigest digest.Digest
	if digested, ok := named.(reference.Digested); ok {
		manifestDigest = digested.Digest()
		wanted = manifestDigest.String()
	}
	top, manifestDigest, err := repo.manifest(ctx, wanted, manifestDigest)
	if err != nil {
		return nil, err
	}
	manifest, err := repo.forPlatform(ctx, top)
	if err != nil {
		return nil, err
	}
	raw, err := repo.document(ctx, "blobs", manifest.Config.Digest.String(), manifest.Config.Digest)
	if err != nil {
		return nil, fmt.Errorf("fetch configuration: %w", err)
	}
	sources := make([]source, len(manifest.Layers))
	size := manifest.Config.Size
	for i, layer := range manifest.Layers {
		if layer.MediaType == dockerForeign {
			return nil, fmt.Errorf("layer %s is not in the registry", layer.Digest)
		}
		size += layer.Size
		sources[i] = func(ctx context.Context) (io.ReadCloser, error) { return repo.blob(ctx, layer) }
	}
	return s.build(ctx, raw, manifest.Config.Digest, sources, size, []reference.Named{named}, manifestDigest)
}

// build unpacks an image of a known configuration and names it.
func (s *Store) build(ctx context.Context, config []byte, id digest.Digest, sources []source, size int64, names []reference.Named, manifest digest.Digest) (*Image, error) {
	img := &Image{ID: id.String(), Size: size, CreatedAt: time.Now()}
	if err := json.Unmarshal(config, &img.Config); err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", id, err)
	}
	err := s.unpackLayers(ctx, img.Config.RootFS.DiffIDs, sources, func(layers []Layer) (err error) {
		img.Layers = layers
		img, err = s.add(img, names, manifest)
		return err
	})
	return img, err
}

// repository is one repository at an endpoint, with access granted.
type repository struct {
	base   string // https://host/v2/name
	client *http.Client
}

// open asks for access and returns the repository.
func (e endpoint) open(ctx context.Context, named reference.Named) (*repository, error) {
	path := reference.Path(named)
	if e.prefix != "" {
		path = e.prefix + "/" + path
	}
	options := []name.Option{name.WeakValidation}
	if e.scheme == "http" {
		options = append(options, name.Insecure)
	}
	repo, err := name.NewRepository(e.host+"/"+path, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalidReference, err)
	}
	granted, err := transport.NewWithContext(ctx, repo.Registry, e.auth, e.transport, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	return &repository{base: e.scheme + "://" + e.host + "/v2/" + path, client: &http.Client{Transport: granted}}, nil
}

// get performs a request. With an offset it asks for the rest of an object of that size.
func (r *repository) get(ctx context.Context, kind, what string, offset, size int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/"+kind+"/"+what, nil)
	if err != nil {
		return nil, err
	}
	if kind == "manifests" {
		request.Header["Accept"] = []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, dockerManifest, dockerList}
	}
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, size-1))
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if offset > 0 {
		want = http.StatusPartialContent
	}
	if response.StatusCode == want {
		return response, nil
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotFound && kind == "manifests" {
		return nil, fmt.Errorf("%w: %s/%s/%s", ErrNotFound, r.base, kind, what)
	}
	if err := transport.CheckError(response, want); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s answered %s", r.base, response.Status)
}

// document fetches a small object and verifies it against its digest, if that is known.
func (r *repository) document(ctx context.Context, kind, what string, want digest.Digest) ([]byte, error) {
	response, err := r.get(ctx, kind, what, 0, 0)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxDocumentBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxDocumentBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", what, maxDocumentBytes)
	}
	if want != "" {
		if err := want.Validate(); err != nil {
			return nil, err
		}
		if want.Algorithm().FromBytes(data) != want {
			return nil, fmt.Errorf("content of %s does not have that digest", what)
		}
	}
	return data, nil
}

// manifestDocument is either a manifest or a list of them.
type manifestDocument struct {
	MediaType string               `json:"mediaType"`
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

func (r *repository) manifest(ctx context.Context, what string, want digest.Digest) (*manifestDocument, digest.Digest, error) {
	data, err := r.document(ctx, "manifests", what, want)
	if err != nil {
		return nil, "", err
	}
	document, err := parseManifest(data)
	if err != nil {
		return nil, "", fmt.Errorf("read manifest %s: %w", what, err)
	}
	if want == "" {
		want = digest.FromBytes(data)
	}
	return document, want, nil
}

func parseManifest(data []byte) (*manifestDocument, error) {
	var document manifestDocument
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&document); err != nil {
		return nil, err
	}
	if len(document.Manifests) == 0 && document.Config.Digest == "" {
		return nil, errors.New("it is neither an image manifest nor a list of them")
	}
	return &document, nil
}

// forPlatform descends from a list to the manifest for this machine.
func (r *repository) forPlatform(ctx context.Context, document *manifestDocument) (*manifestDocument, error) {
	for depth := 0; len(document.Manifests) > 0; depth++ {
		if depth == 3 {
			return nil, errors.New("lists of manifests are nested too deeply")
		}
		chosen := choosePlatform(document.Manifests)
		if chosen == nil {
			return nil, fmt.Errorf("%w: no match for platform linux/%s in manifest", ErrNotFound, runtime.GOARCH)
		}
		next, _, err := r.manifest(ctx, chosen.Digest.String(), chosen.Digest)
		if err != nil {
			return nil, err
		}
		document = next
	}
	return document, nil
}

// choosePlatform finds the best entry of a list: this architecture in its plainest variant.
func choosePlatform(manifests []ocispec.Descriptor) *ocispec.Descriptor {
	var found *ocispec.Descriptor
	for i := range manifests {
		platform := manifests[i].Platform
		if platform == nil {
			if len(manifests) == 1 {
				return &manifests[i]
			}
			continue
		}
		if platform.OS != "linux" || platform.Architecture != runtime.GOARCH {
			continue
		}
		if platform.Variant == "" || platform.Variant == "v8" {
			return &manifests[i]
		}
		if found == nil && runtime.GOARCH != "amd64" {
			found = &manifests[i]
		}
	}
	return found
}
