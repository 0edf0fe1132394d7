package checkpoint

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

func TestVersionsAreOneNumber(t *testing.T) {
	for text, want := range map[string]int{"Version: 3.17.1\n": 31701, "Version: 4.0\nGitID: v4.0\n": 40000, "Version: 3.16\n": 31600} {
		if got, err := parseVersion(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	if _, err := parseVersion("criu"); err == nil {
		t.Error("no version is taken for one")
	}
}

func mounts(t *testing.T, text string) []*mountinfo.Info {
	t.Helper()
	list, err := mountinfo.GetMountsFromReader(strings.NewReader(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestMountsFromTheNodeAreExternal(t *testing.T) {
	own := mounts(t, `100 99 0:50 / / rw - overlay overlay rw
101 100 0:51 / /proc rw - proc proc rw
102 100 0:52 / /dev rw - tmpfs tmpfs rw
103 102 0:60 / /dev/shm rw - tmpfs shm rw
104 100 8:1 /var/lib/pods/x\040y/hosts /etc/hosts rw - ext4 /dev/vda rw
105 101 0:51 /sys /proc/sys ro - proc proc rw
106 101 0:52 /null /proc/kcore rw - tmpfs tmpfs rw
107 100 0:61 / /image ro - overlay overlay rw
108 101 0:62 / /proc/acpi ro - tmpfs tmpfs ro
`)
	node := mounts(t, "1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 0:60 / /run/shm rw shared:1 - tmpfs shm rw\n")
	got := externalMounts(own, node)
	want := []string{"mnt[/dev/shm]:/dev/shm", "mnt[/etc/hosts]:/etc/hosts", "mnt[/proc/kcore]:/proc/kcore", "mnt[/image]:/image"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if own[4].Root != "/var/lib/pods/x y/hosts" {
		t.Errorf("the root is %q", own[4].Root)
	}
}

// TestChangesOfAnOverlayBecomeALayer packs what overlayfs keeps, and looks at the archive.
func TestChangesOfAnOverlayBecomeALayer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("whiteouts need root")
	}
	upper := t.TempDir()
	in := func(name string) string { return filepath.Join(upper, name) }
	err := errors.Join(
		os.MkdirAll(in("dir/sub"), 0o755), os.WriteFile(in("dir/file"), []byte("content"), 0o640), os.Link(in("dir/file"), in("same")),
		os.Symlink("/etc/shadow", in("link")), unix.Mkfifo(in("pipe"), 0o600), unix.Mknod(in("gone"), unix.S_IFCHR, 0),
		os.Mkdir(in("anew"), 0o755), unix.Setxattr(in("anew"), overlayOpaque, []byte("y"), 0),
	)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), rootDiff)
	if err := writeDiff(path, upper); err != nil {
		t.Fatal(err)
	}
	want := map[string]byte{
		"dir/": tar.TypeDir, "dir/sub/": tar.TypeDir, "dir/file": tar.TypeReg, "same": tar.TypeLink, "link": tar.TypeSymlink, "pipe": tar.TypeFifo,
		".wh.gone": tar.TypeReg, "anew/": tar.TypeDir, "anew/.wh..wh..opq": tar.TypeReg,
	}
	for name, kind := range listArchive(t, path) {
		if want[name] != kind {
			t.Errorf("%s is of type %q, want %q", name, kind, want[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

func listArchive(t *testing.T, path string) map[string]byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	kinds := map[string]byte{}
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return kinds
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds[header.Name] = header.Typeflag
	}
}
