package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Remove forgets an image by name or ID, with all its names. Its layers go when nothing uses them any
// more. To remove what is not there is no error.
func (s *Store) Remove(ctx context.Context, name string) error {
	s.mu.Lock()
	img, err := s.get(name)
	if errors.Is(err, ErrNotFound) {
		s.mu.Unlock()
		return nil
	}
	if err == nil {
		delete(s.images, img.ID)
		err = s.save()
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Collect(ctx)
}

// Collect deletes the layers that no image names and no container holds.
func (s *Store) Collect(ctx context.Context) error {
	doomed, err := s.condemn()
	if err != nil {
		return err
	}
	for _, dir := range doomed {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("delete a layer: %w", err)
		}
	}
	return nil
}

// condemn moves unused layers out of the way under the lock, so that deleting them needs none.
func (s *Store) condemn() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[string]bool{}
	for _, img := range s.images {
		for _, layer := range img.Layers {
			used[layer.dir()] = true
		}
	}
	entries, err := os.ReadDir(s.LayerDir())
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	var doomed []string
	for _, entry := range entries {
		name := entry.Name()
		if used[name] || s.held[name] > 0 {
			continue
		}
		to, err := os.MkdirTemp(s.ingestDir(), "doomed-")
		if err == nil {
			err = os.Rename(filepath.Join(s.LayerDir(), name), filepath.Join(to, "layer"))
		}
		if err != nil {
			return doomed, fmt.Errorf("retire layer %s: %w", name, err)
		}
		doomed = append(doomed, to)
		delete(s.layers, name)
	}
	if len(doomed) == 0 {
		return nil, nil
	}
	return doomed, s.save()
}

// Hold keeps the layers of a container's image from being deleted, even if the image is removed.
func (s *Store) Hold(layers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, dir := range layers {
		s.held[dir]++
	}
}

// Release undoes Hold.
func (s *Store) Release(layers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, dir := range layers {
		if s.held[dir]--; s.held[dir] <= 0 {
			delete(s.held, dir)
		}
	}
}
