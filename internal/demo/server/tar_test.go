package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestTar(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(from, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "a", "b", "c"), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	t.Chdir(from)
	var buf bytes.Buffer
	if err := archive([]string{"cf", "-", "a"}, nil, &buf); err != nil {
		t.Fatal(err)
	}
	if err := archive([]string{"-xmf", "-", "-C", to}, &buf, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "a", "b", "c")); err != nil || string(got) != "text" {
		t.Errorf("what came back is %q, %v", got, err)
	}
}
