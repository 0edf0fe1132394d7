package reload

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestChangedContentIsApplied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	applied := make(chan string)
	f := &File{Path: path, Current: []byte("first"), Logger: slog.New(slog.DiscardHandler), Apply: func(_ context.Context, content []byte) error {
		applied <- string(content)
		if string(content) == "bad" {
			return errors.New("bad")
		}
		return nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	for _, content := range []string{"second", "bad", "third"} {
		write(content)
		if got := <-applied; got != content {
			t.Fatalf("%q was applied", got)
		}
	}
	go func() {
		for range applied {
		}
	}()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(applied)
	if string(f.Current) != "third" {
		t.Errorf("%s is in force", f.Current)
	}
}
