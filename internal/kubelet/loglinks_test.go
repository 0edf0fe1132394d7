package kubelet

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLogLinks(t *testing.T) {
	logs, dir := t.TempDir(), t.TempDir()
	l := &logLinks{dir: dir, target: logs, logger: slog.New(slog.DiscardHandler)}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	var paths []string
	for _, id := range []string{"one", "two", "three"} {
		path := filepath.Join(logs, id+".log")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		l.add(pod, "main", id, path)
		l.add(pod, "main", id, path) // a second time changes nothing
		paths = append(paths, path)
	}
	l.add(pod, "main", "none", filepath.Join(logs, "none.log"))
	gone := filepath.Join(logs, "gone")
	if err := errors.Join(os.Mkdir(gone, 0o700), os.WriteFile(filepath.Join(gone, "0.log"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	l.add(pod, "main", "five", filepath.Join(gone, "0.log"))
	l.dropUnder(gone)
	foreign := filepath.Join(dir, "other_default_main-four.log")
	if err := os.Symlink("/nowhere/four.log", foreign); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(filepath.Join(dir, "web_default_main-one.log")); err != nil || got != paths[0] {
		t.Errorf("the link leads to %q, %v", got, err)
	}
	l.drop("one")
	if err := os.Remove(paths[1]); err != nil {
		t.Fatal(err)
	}
	l.sweep()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"other_default_main-four.log", "web_default_main-three.log"}; !slices.Equal(names, want) {
		t.Errorf("left are %v, want %v", names, want)
	}
	if name := linkName(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: strings.Repeat("x", 300)}}, "c", "id"); len(name) != 255 || !strings.HasSuffix(name, ".log") {
		t.Errorf("a long name is %d long", len(name))
	}
}
