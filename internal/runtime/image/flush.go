package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"clipper.dev/clipper/internal/durable"
)

// fewInodes is how many files are flushed one by one; beyond, flushing the whole file system is quicker.
const fewInodes = 64

// flush makes an image's new layers durable, so that the index never names a torn one.
func (s *Store) flush(img *Image) error {
	var fresh []string
	var inodes int64
	s.mu.Lock()
	for _, layer := range img.Layers {
		if _, known := s.layers[layer.dir()]; !known {
			fresh = append(fresh, filepath.Join(s.LayerDir(), layer.dir()))
			inodes += layer.Inodes
		}
	}
	s.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	if inodes > fewInodes {
		return syncAll(s.LayerDir())
	}
	for _, dir := range fresh {
		if err := syncTree(dir); err != nil {
			return fmt.Errorf("flush layers: %w", err)
		}
	}
	return durable.Sync(s.LayerDir())
}

func syncAll(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("flush layers: %w", err)
	}
	err = unix.Syncfs(int(dir.Fd()))
	if err = errors.Join(err, dir.Close()); err != nil {
		return fmt.Errorf("flush layers: %w", err)
	}
	return nil
}

// syncTree flushes the files and folders of a layer; links and devices are not opened.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !(entry.IsDir() || entry.Type().IsRegular()) {
			return err
		}
		return durable.Sync(path)
	})
}
