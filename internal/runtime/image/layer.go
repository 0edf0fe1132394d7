package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

// source opens the content of a layer, compressed or not.
type source func(ctx context.Context) (io.ReadCloser, error)

// unpackWorkers bounds how many layers of one image are fetched and unpacked at once.
const unpackWorkers = 4

// unpackLayers brings the layers of an image into the store, those that are there already excepted.
// All are fetched and unpacked beside each other; each is settled on its parents in order. commit names
// them in the index; until it has returned, no other puller touches the same layers.
func (s *Store) unpackLayers(ctx context.Context, diffIDs []digest.Digest, sources []source, commit func([]Layer) error) error {
	if len(diffIDs) != len(sources) {
		return fmt.Errorf("image lists %d layers in its configuration and %d in its manifest", len(diffIDs), len(sources))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	layers := make([]Layer, len(diffIDs))
	pending := make([]*unpacked, len(diffIDs))
	var wg sync.WaitGroup
	slots := make(chan struct{}, unpackWorkers)
	for i := range diffIDs {
		if err := diffIDs[i].Validate(); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	for i := range diffIDs {
		layers[i] = Layer{DiffID: diffIDs[i], ChainID: identity.ChainID(diffIDs[:i+1])}
		unlock := s.lockLayer(layers[i].dir())
		defer unlock()
		if known, ok := s.findLayer(layers[i]); ok {
			layers[i] = known
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			u, err := s.unpackOne(ctx, layers[i], sources[i])
			if err != nil {
				cancel(fmt.Errorf("layer %s: %w", diffIDs[i], err))
				return
			}
			pending[i] = u
		})
	}
	wg.Wait()
	defer func() {
		for _, u := range pending {
			if u != nil {
				os.RemoveAll(u.temporary)
			}
		}
	}()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.settleLayers(layers, pending); err != nil {
		return err
	}
	return commit(layers)
}

func (s *Store) settleLayers(layers []Layer, pending []*unpacked) error {
	var parents []string
	for i, u := range pending {
		final := filepath.Join(s.LayerDir(), layers[i].dir())
		if u != nil {
			if err := u.settle(parents); err != nil {
				return fmt.Errorf("layer %s: %w", layers[i].DiffID, err)
			}
			layers[i].Bytes, layers[i].Inodes = u.bytes, u.inodes
			if err := os.RemoveAll(final); err != nil {
				return fmt.Errorf("clear an unfinished layer: %w", err)
			}
			if err := os.Rename(u.root, final); err != nil {
				return fmt.Errorf("place layer %s: %w", layers[i].DiffID, err)
			}
		}
		parents = append([]string{final}, parents...)
	}
	return nil
}

// lockLayer lets one puller at a time make a layer; others then find it. Layers are locked in the order
// of a chain, so two images that share its beginning cannot wait for each other.
func (s *Store) lockLayer(dir string) func() {
	s.mu.Lock()
	lock, ok := s.busy[dir]
	if !ok {
		lock = &sync.Mutex{}
		s.busy[dir] = lock
	}
	s.held[dir]++ // not to be collected before an image names it
	s.mu.Unlock()
	lock.Lock()
	return func() {
		lock.Unlock()
		s.Release([]string{dir})
	}
}

// findLayer tells whether the store has the layer complete.
func (s *Store) findLayer(wanted Layer) (Layer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	layer, ok := s.layers[wanted.dir()]
	return layer, ok && layer.ChainID == wanted.ChainID
}

func (s *Store) unpackOne(ctx context.Context, layer Layer, open source) (*unpacked, error) {
	temporary, err := os.MkdirTemp(s.ingestDir(), "layer-")
	if err != nil {
		return nil, fmt.Errorf("create a folder to unpack into: %w", err)
	}
	u := &unpacked{temporary: temporary, root: filepath.Join(temporary, "fs")}
	if err := s.fill(ctx, u, layer.DiffID, open); err != nil {
		return nil, errors.Join(err, os.RemoveAll(temporary))
	}
	return u, nil
}

func (s *Store) fill(ctx context.Context, u *unpacked, want digest.Digest, open source) error {
	compressed, err := open(ctx)
	if err != nil {
		return err
	}
	defer compressed.Close()
	tarball, closeTarball, err := decompress(compressed)
	if err != nil {
		return err
	}
	defer closeTarball()
	verifier := want.Verifier()
	content := io.TeeReader(&contextReader{ctx, tarball}, verifier)
	if err := u.extract(content); err != nil {
		return err
	}
	// What follows the archive's end still counts for both digests.
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, compressed); err != nil {
		return err
	}
	if !verifier.Verified() {
		return fmt.Errorf("content does not have the digest %s", want)
	}
	return nil
}

// decompress recognizes gzip and zstd by their first bytes.
func decompress(r io.Reader) (io.Reader, func(), error) {
	buffered := bufio.NewReaderSize(r, 128<<10)
	magic, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, nil, fmt.Errorf("open gzip: %w", err)
		}
		return unzipped, func() { unzipped.Close() }, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		decoder, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, fmt.Errorf("open zstd: %w", err)
		}
		return decoder, decoder.Close, nil
	}
	return buffered, func() {}, nil
}

// contextReader stops a copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
