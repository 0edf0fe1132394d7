package cluster

import (
	"os"
	"path/filepath"
	"testing"
)

func TestKubeletsFoldersAreOfferedToPlugins(t *testing.T) {
	dir := t.TempDir()
	at, first, second := filepath.Join(dir, "well-known"), filepath.Join(dir, "first"), filepath.Join(dir, "second")
	leads := func(want string) {
		t.Helper()
		got, err := filepath.EvalSymlinks(filepath.Join(at, "device-plugins"))
		if err != nil || got != want {
			t.Errorf("it leads to %s, %v, not to %s", got, err, want)
		}
	}
	offer := func(to string) {
		t.Helper()
		if err := offerFolders(filepath.Join(to, "kubelet"), at); err != nil {
			t.Fatal(err)
		}
	}
	offer(first)
	leads(filepath.Join(first, "kubelet", "device-plugins"))
	offer(second) // comes second
	leads(filepath.Join(first, "kubelet", "device-plugins"))
	if err := os.RemoveAll(first); err != nil {
		t.Fatal(err)
	}
	offer(second)
	leads(filepath.Join(second, "kubelet", "device-plugins"))
	if err := withdrawFolders(first, at); err != nil {
		t.Fatal(err)
	}
	leads(filepath.Join(second, "kubelet", "device-plugins"))
	if err := withdrawFolders(second, at); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(at); !os.IsNotExist(err) {
		t.Errorf("the well-known folder is left: %v", err)
	}
	foreign := filepath.Join(at, "device-plugins")
	if err := os.MkdirAll(foreign, 0o750); err != nil {
		t.Fatal(err)
	}
	offer(second)
	leads(foreign)
	if err := withdrawFolders(second, at); err != nil {
		t.Fatal(err)
	}
	leads(foreign)
}
