package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// trash deletes folders off the way of whoever removes a container: a root file system may be large.
type trash struct {
	dir  string
	log  *slog.Logger
	wake chan struct{}
}

func newTrash(dir string, log *slog.Logger) (*trash, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create %s: %w", dir, err)
	}
	t := &trash{dir: dir, log: log, wake: make(chan struct{}, 1)}
	t.wake <- struct{}{} // what a former process left
	return t, nil
}

// take moves a folder into the trash; it succeeds when there is none.
func (t *trash) take(path string) error {
	err := os.Rename(path, filepath.Join(t.dir, filepath.Base(path)))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("move %s to the trash: %w", path, err)
	}
	select {
	case t.wake <- struct{}{}:
	default: // it is awake already
	}
	return nil
}

// run deletes what is in the trash, until the context ends.
func (t *trash) run(ctx context.Context) error {
	for {
		select {
		case <-t.wake:
		case <-ctx.Done():
			return nil
		}
		entries, err := os.ReadDir(t.dir)
		if err != nil {
			t.log.Error("the trash cannot be read", "error", err)
			continue
		}
		for _, entry := range entries {
			if err := os.RemoveAll(filepath.Join(t.dir, entry.Name())); err != nil {
				t.log.Error("a folder in the trash cannot be deleted", "error", err)
			}
		}
	}
}
