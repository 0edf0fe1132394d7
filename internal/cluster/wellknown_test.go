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

func TestLogsLieWhereCollectorsLook(t *testing.T) {
	first, _ := NewLayout("")
	named, _ := NewLayout("other")
	dir := filepath.Join(t.TempDir(), "pods")
	lie := func(l Layout, want string) {
		t.Helper()
		if got := l.podLogs(dir); got != want {
			t.Errorf("%s's logs lie in %s, not in %s", l.Name, got, want)
		}
	}
	lie(first, dir)
	lie(named, "/var/log/clipper-other/pods")
	lie(first.Node(2), "/var/log/clipper/node2/pods")
	if err := own(dir, first.DataDir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "default_web_1"), 0o755); err != nil {
		t.Fatal(err)
	}
	lie(first, dir) // its own logs
	if err := os.Remove(filepath.Join(dir, ownerFile)); err != nil {
		t.Fatal(err)
	}
	lie(first, "/var/log/clipper/pods") // another kubelet's logs
	for _, c := range []struct {
		l          Layout
		logs, want string
	}{
		{first, first.PodLogDir(), wellKnownLogLinks},
		{named, named.PodLogDir(), "/var/log/clipper-other/containers"},
		{named.Node(2), wellKnownLogs, wellKnownLogLinks},
	} {
		if got := c.l.logLinks(c.logs); got != c.want {
			t.Errorf("links to the logs in %s lie in %s, not in %s", c.logs, got, c.want)
		}
	}
}

func TestLinksToOthersLogsStay(t *testing.T) {
	dir := t.TempDir()
	for name, log := range map[string]string{"own": "/logs/own/a/0.log", "other": "/logs/other/a/0.log"} {
		if err := os.Symlink(log, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeLogLinks(dir, "/logs/own"); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 || entries[0].Name() != "other" {
		t.Errorf("there are %v", entries)
	}
	if err := removeLogLinks(dir, "/logs/other"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the empty folder stayed: %v", err)
	}
}
