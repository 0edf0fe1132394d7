package cri

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/kubelet/criconfig"
)

// A pod can have its termination message lie in a volume, where it may put whatever it can make.
func TestATerminationMessageIsReadFromARegularFileAlone(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("the host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"a file":               func(path string) error { return os.WriteFile(path, []byte("bye"), 0o666) },
		"a link":               func(path string) error { return os.Symlink(secret, path) },
		"a pipe":               func(path string) error { return unix.Mkfifo(path, 0o666) },
		"the node of a device": func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) },
		"a folder":             func(path string) error { return os.Mkdir(path, 0o777) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "message")
			if err := make(path); err != nil {
				t.Skip(err)
			}
			s := &runtimeapi.ContainerStatus{Mounts: []*runtimeapi.Mount{{HostPath: path, ContainerPath: "/told"}}}
			got := terminationMessage(t.Context(), s, &criconfig.Annotated{TerminationMessagePath: "/told", TerminationMessagePolicy: corev1.TerminationMessageReadFile})
			want := "Error on reading termination log " + path
			if name == "a file" {
				want = "bye"
			}
			if !strings.HasPrefix(got, want) || strings.Contains(got, "the host's") {
				t.Errorf("the message is %q", got)
			}
		})
	}
}
