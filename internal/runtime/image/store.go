package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"clipper.dev/clipper/internal/durable"
)

// Errors that callers tell apart.
var (
	ErrNotFound         = errors.New("image not found")
	ErrInvalidReference = errors.New("invalid reference")
)

// Image is what the store knows of an image. It is never changed after it was made.
type Image struct {
	ID          string   // the digest of its configuration
	RepoTags    []string // names with tags
	RepoDigests []string // names with digests of manifests
	Size        int64    // in bytes, of its layers as they were transferred and of its configuration
	Pinned      bool     // never to be collected
	Layers      []Layer  // the lowest first
	Config      ocispec.Image
	CreatedAt   time.Time // when it came into the store
}

// emptyLayer, relative to the folder of layers, stands in for the layers of an image that has none.
const emptyLayer = "../empty"

// Layer is one unpacked layer.
type Layer struct {
	ChainID digest.Digest
	DiffID  digest.Digest
	Bytes   int64 // it takes on the disk
	Inodes  int64
}

// dir is the name of the layer's folder; short, since the kernel takes all layers of a mount in one page.
func (l Layer) dir() string { return l.ChainID.Encoded()[:24] }

// Store is a folder of images. It is safe for concurrent use by one process.
type Store struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex
	images map[string]*Image // by ID
	layers map[string]Layer  // complete ones, by folder
	held   map[string]int    // by layer's folder: containers that use it
	busy   map[string]*sync.Mutex
	pulls  map[string]*pull
}

// Open opens the store in a folder, and clears away what a crash left.
func Open(dir string, log *slog.Logger) (*Store, error) {
	s := &Store{
		dir: dir, log: log,
		images: map[string]*Image{}, layers: map[string]Layer{}, held: map[string]int{}, busy: map[string]*sync.Mutex{}, pulls: map[string]*pull{},
	}
	if err := os.RemoveAll(s.ingestDir()); err != nil {
		return nil, fmt.Errorf("clear unfinished images: %w", err)
	}
	for _, dir := range []string{s.ingestDir(), s.LayerDir(), filepath.Join(s.LayerDir(), emptyLayer)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create image store: %w", err)
		}
	}
	return s, s.load()
}

func (s *Store) ingestDir() string { return filepath.Join(s.dir, "ingest") }
func (s *Store) indexPath() string { return filepath.Join(s.dir, "index.json") }

// LayerDir is the folder that holds all layers; overlay mounts name layers relative to it.
func (s *Store) LayerDir() string { return filepath.Join(s.dir, "layers") }

// index is what the index file holds. It lists layers apart from images, since a container may hold
// the layers of an image that was removed.
type index struct {
	Images []*Image
	Layers []Layer
}

func (s *Store) load() error {
	data, err := os.ReadFile(s.indexPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the image index: %w", err)
	}
	var index index
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("read the image index %s: %w", s.indexPath(), err)
	}
	for _, layer := range index.Layers {
		s.layers[layer.dir()] = layer
	}
	for _, img := range index.Images {
		if missing := s.missingLayer(img); missing != "" {
			s.log.Warn("forgetting an image whose layer is gone", "image", img.ID, "layer", missing)
			continue
		}
		s.images[img.ID] = img
	}
	return nil
}

func (s *Store) missingLayer(img *Image) string {
	for _, layer := range img.Layers {
		if info, err := os.Stat(filepath.Join(s.LayerDir(), layer.dir())); err != nil || !info.IsDir() {
			return layer.dir()
		}
	}
	return ""
}

// save writes the index durably. The caller holds the lock.
func (s *Store) save() error {
	var content index
	for _, id := range slices.Sorted(maps.Keys(s.images)) {
		content.Images = append(content.Images, s.images[id])
	}
	for _, dir := range slices.Sorted(maps.Keys(s.layers)) {
		content.Layers = append(content.Layers, s.layers[dir])
	}
	data, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("encode the image index: %w", err)
	}
	if err := durable.WriteFile(s.indexPath(), data, 0o600); err != nil {
		return fmt.Errorf("write the image index: %w", err)
	}
	return nil
}

// List returns all images in the order of their IDs.
func (s *Store) List() []*Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	images := slices.Collect(maps.Values(s.images))
	slices.SortFunc(images, func(a, b *Image) int { return strings.Compare(a.ID, b.ID) })
	return images
}

// Get finds an image by its ID, the beginning of its ID, a name with a tag or a name with a digest.
func (s *Store) Get(name string) (*Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(name)
}

func (s *Store) get(name string) (*Image, error) {
	if hex, ok := imageID(name); ok {
		var found *Image
		for id, img := range s.images {
			if strings.HasPrefix(id, "sha256:"+hex) {
				if found != nil {
					return nil, fmt.Errorf("%w: %q begins the IDs of several images", ErrInvalidReference, name)
				}
				found = img
			}
		}
		if found != nil {
			return found, nil
		}
		if len(hex) == 64 {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, name) // an ID, which is no name
		}
	}
	named, err := normalize(name)
	if err != nil {
		return nil, err
	}
	for _, img := range s.images {
		if slices.Contains(img.RepoTags, named.String()) || slices.Contains(img.RepoDigests, named.String()) {
			return img, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, named)
}

// add names an image whose layers are in place. A tag that another image had moves to this one.
func (s *Store) add(img *Image, names []reference.Named, manifest digest.Digest) (*Image, error) {
	if err := s.flush(img); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.images[img.ID]; ok {
		img.RepoTags = slices.Clone(old.RepoTags)
		img.RepoDigests = slices.Clone(old.RepoDigests)
		img.Pinned = old.Pinned
		img.CreatedAt = old.CreatedAt
	}
	for _, named := range names {
		if tagged, ok := named.(reference.Tagged); ok {
			s.untag(named.String(), img.ID)
			img.RepoTags = appendNew(img.RepoTags, reference.TrimNamed(named).Name()+":"+tagged.Tag())
		}
		if manifest != "" {
			img.RepoDigests = appendNew(img.RepoDigests, repoDigest(named, manifest))
		}
		if digested, ok := named.(reference.Digested); ok {
			img.RepoDigests = appendNew(img.RepoDigests, repoDigest(named, digested.Digest()))
		}
	}
	s.images[img.ID] = img
	for _, layer := range img.Layers {
		s.layers[layer.dir()] = layer
	}
	return img, s.save()
}

// untag takes a name from every other image. The caller holds the lock.
func (s *Store) untag(name, except string) {
	for id, img := range s.images {
		if id == except || !slices.Contains(img.RepoTags, name) {
			continue
		}
		changed := *img
		changed.RepoTags = slices.DeleteFunc(slices.Clone(img.RepoTags), func(t string) bool { return t == name })
		s.images[id] = &changed
	}
}

func appendNew(list []string, item string) []string {
	if slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}

// Pin marks an image as one that is never to be collected.
func (s *Store) Pin(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.get(name)
	if err != nil || img.Pinned {
		return err
	}
	pinned := *img
	pinned.Pinned = true
	s.images[img.ID] = &pinned
	return s.save()
}

// Lower lists the folders of an image's layers, relative to LayerDir, the uppermost first: the order
// in which an overlay mount wants them.
func (img *Image) Lower() []string {
	if len(img.Layers) == 0 {
		return []string{emptyLayer}
	}
	lower := make([]string, 0, len(img.Layers))
	for _, layer := range slices.Backward(img.Layers) {
		lower = append(lower, layer.dir())
	}
	return lower
}

// Usage sums what all layers take on the disk.
func (s *Store) Usage() (bytes, inodes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for _, img := range s.images {
		for _, layer := range img.Layers {
			if !seen[layer.dir()] {
				seen[layer.dir()] = true
				bytes += layer.Bytes
				inodes += layer.Inodes
			}
		}
	}
	return bytes, inodes
}
