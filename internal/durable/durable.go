// Package durable replaces small files whole: whatever ends the writer, a reader finds the old content or the new one.
//
// A writer that is killed leaves at most one hidden file beside its own, ".<name>.new", which the next write takes over. Writes of one path
// must not overlap.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile makes a file of these contents and mode, whatever the umask. When it returns nil, the file is on disk and found by its name there, so
// that it outlives the machine's failure. The folder has to exist.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	if err := write(path, data, mode, (*os.File).Sync); err != nil {
		return err
	}
	return Sync(filepath.Dir(path))
}

// Replace is WriteFile without waiting for the disk. It is for what a failure of the machine ends anyway, and whose reader takes an empty file for
// none: such a failure may leave one.
func Replace(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, func(*os.File) error { return nil })
}

// Sync brings a file or folder to disk; of a folder, the names in it.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func write(path string, data []byte, mode fs.FileMode, settle func(*os.File) error) (err error) {
	part := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(part))
		}
	}()
	if _, err = f.Write(data); err == nil {
		if err = f.Chmod(mode); err == nil {
			err = settle(f)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(part, path)
}
