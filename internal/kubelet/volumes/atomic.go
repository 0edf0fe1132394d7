package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is one file of a volume whose contents the kubelet writes.
type file struct {
	data []byte
	mode int32
	uid  *int64
}

const (
	dataLink    = "..data"
	dataLinkTmp = "..data_tmp"
	stampFormat = "..2006_01_02_15_04_05."
)

// writeAtomic makes a directory hold exactly the files given, so that a reader sees either all of the old or all of the new contents:
//
//	dir/..2024_01_02_03_04_05.123456789/a/b    the files
//	dir/..data → ..2024_01_02_03_04_05.123456789, replaced by renaming
//	dir/a → ..data/a, for the first element of each path
//
// It returns false when nothing had to change. own is called with what was written before it becomes visible.
func writeAtomic(dir string, files map[string]file, own func(dir string) error) (changed bool, err error) {
	for path := range files {
		if err := checkPath(path); err != nil {
			return false, err
		}
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("read %s: %w", dataLink, err)
	}
	if old != "" && same(filepath.Join(dir, old), files) {
		return false, link(dir, files)
	}
	stamped, err := writeStamped(dir, files)
	if err != nil {
		return false, err
	}
	if err := own(stamped); err != nil {
		return false, err
	}
	tmp := filepath.Join(dir, dataLinkTmp)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("write volume: %w", err)
	}
	if err := os.Symlink(filepath.Base(stamped), tmp); err != nil {
		return false, fmt.Errorf("write volume: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
		return false, fmt.Errorf("write volume: %w", err)
	}
	if err := link(dir, files); err != nil {
		return true, err
	}
	return true, removeStale(dir, filepath.Base(stamped))
}

// checkPath refuses paths that leave the volume or clash with the writer's own names.
func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("invalid path: must not be empty")
	case filepath.IsAbs(path):
		return fmt.Errorf("invalid path: must be relative path: %s", path)
	case len(path) > 4096:
		return errors.New("invalid path: must be less than or equal to 4096 characters")
	}
	parts := strings.Split(path, "/")
	for _, p := range parts {
		if p == ".." {
			return fmt.Errorf("invalid path: must not contain '..': %s", path)
		}
		if len(p) > 255 {
			return errors.New("invalid path: filenames must be less than or equal to 255 characters")
		}
	}
	if strings.HasPrefix(parts[0], "..") {
		return fmt.Errorf("invalid path: must not start with '..': %s", path)
	}
	return nil
}

// same tells whether a directory holds exactly the files given.
func same(dir string, files map[string]file) bool {
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, ok := files[rel]
		info, err := d.Info()
		if !ok || err != nil || info.Size() != int64(len(want.data)) {
			return errDiffers
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(data, want.data) {
			return errDiffers
		}
		found++
		return nil
	})
	return err == nil && found == len(files)
}

var errDiffers = errors.New("contents differ")

func writeStamped(dir string, files map[string]file) (string, error) {
	stamped, err := os.MkdirTemp(dir, time.Now().UTC().Format(stampFormat))
	if err != nil {
		return "", fmt.Errorf("write volume: %w", err)
	}
	if err := os.Chmod(stamped, 0o755); err != nil {
		return "", fmt.Errorf("write volume: %w", err)
	}
	for path, f := range files {
		full := filepath.Join(stamped, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return "", fmt.Errorf("write volume: %w", err)
		}
		if err := os.WriteFile(full, f.data, fs.FileMode(f.mode)); err != nil {
			return "", fmt.Errorf("write volume: %w", err)
		}
		// Creation is subject to the umask.
		if err := os.Chmod(full, fs.FileMode(f.mode)); err != nil {
			return "", fmt.Errorf("write volume: %w", err)
		}
		if f.uid != nil {
			if err := os.Chown(full, int(*f.uid), -1); err != nil {
				return "", fmt.Errorf("write volume: %w", err)
			}
		}
	}
	return stamped, nil
}

func topLevel(files map[string]file) []string {
	names := map[string]bool{}
	for path := range files {
		first, _, _ := strings.Cut(path, "/")
		names[first] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// link makes the visible links to what is in the data directory.
func link(dir string, files map[string]file) error {
	for _, name := range topLevel(files) {
		visible, target := filepath.Join(dir, name), filepath.Join(dataLink, name)
		if have, err := os.Readlink(visible); err == nil && have == target {
			continue
		}
		if err := os.RemoveAll(visible); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
		if err := os.Symlink(target, visible); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
	}
	return nil
}

// removeStale removes links that lead nowhere and data directories other than the current one.
func removeStale(dir, current string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clean volume: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		full := filepath.Join(dir, name)
		switch {
		case name == current || name == dataLink:
			continue
		case strings.HasPrefix(name, "..") && e.IsDir():
		case e.Type()&fs.ModeSymlink != 0:
			if _, err := os.Lstat(filepath.Join(dir, dataLink, name)); err == nil {
				continue
			}
		default:
			continue // a directory for a nested mount
		}
		if err := os.RemoveAll(full); err != nil {
			return fmt.Errorf("clean volume: %w", err)
		}
	}
	return nil
}
