package reload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// lookEvery is how often the file is read even though nothing was heard of a change.
const lookEvery = time.Minute

// File is a configuration file that may change.
type File struct {
	Path string
	// Current is the content that is in force at the start.
	Current []byte
	// Apply puts new content in force, or says why it cannot be.
	Apply   func(ctx context.Context, content []byte) error
	Metrics *Metrics // nil counts nothing
	Logger  *slog.Logger

	refused []byte // what Apply refused last
}

// Run follows the file until ctx ends.
func (f *File) Run(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.Path, err)
	}
	defer w.Close()
	// The folder is watched: files are replaced by renaming, and where they are mounted from a ConfigMap, by moving a link beside them.
	if err := w.Add(filepath.Dir(f.Path)); err != nil {
		return fmt.Errorf("watch the folder of %s: %w", f.Path, err)
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		f.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f.refused = nil // the reason may be gone
		case <-w.Events:
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				f.Logger.Warn("watching a configuration file", "file", f.Path, "err", err)
			}
		}
	}
}

// look reads the file and applies it if it has changed.
func (f *File) look(ctx context.Context) {
	content, err := os.ReadFile(f.Path)
	if err == nil && (len(content) == 0 || bytes.Equal(content, f.Current)) {
		f.refused = nil
		return // empty while somebody writes it
	}
	if err == nil && f.refused != nil && bytes.Equal(content, f.refused) {
		return
	}
	if err == nil {
		err = f.Apply(ctx, content)
	}
	if err != nil && ctx.Err() != nil {
		return
	}
	f.Metrics.count(err, content)
	if err != nil {
		f.refused = content
		f.Logger.Error("a configuration file cannot be put in force; the former stays", "file", f.Path, "err", err)
		return
	}
	f.Current, f.refused = content, nil
	f.Logger.Info("a configuration file was put in force", "file", f.Path)
}
