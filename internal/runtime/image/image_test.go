package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ggcrtypes "github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("unpacking images needs root")
	}
	store, err := Open(filepath.Join(t.TempDir(), "images"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// pack makes a tar archive of headers; a regular file's content is its PAX comment's stand-in, Linkname.
func pack(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, header := range headers {
		content := ""
		if header.Typeflag == tar.TypeReg {
			content, header.Linkname = header.Linkname, ""
			header.Size = int64(len(content))
		}
		if header.Mode == 0 {
			header.Mode = 0o644
		}
		if err := archive.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func regular(name, content string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Linkname: content}
}

func dir(name string, mode int64) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode}
}

func symlink(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}
}

// unpack brings layers into the store as one image and returns the image.
func unpack(t *testing.T, store *Store, archives ...[]byte) (*Image, error) {
	t.Helper()
	var diffIDs []digest.Digest
	var sources []source
	for _, archive := range archives {
		diffIDs = append(diffIDs, digest.FromBytes(archive))
		sources = append(sources, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil })
	}
	img := &Image{ID: digest.FromString(fmt.Sprint(diffIDs)).String()}
	err := store.unpackLayers(context.Background(), diffIDs, sources, func(layers []Layer) (err error) {
		img.Layers = layers
		img, err = store.add(img, nil, "")
		return err
	})
	return img, err
}

// merged mounts an image as a container would see it.
func merged(t *testing.T, store *Store, img *Image) string {
	t.Helper()
	base := t.TempDir()
	for _, dir := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(base, "root")
	options := "lowerdir=" + strings.Join(store.Tree(img.Lower()), ":") + ",upperdir=" + base + "/upper,workdir=" + base + "/work"
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	return root
}

func TestLayersShowWhatTheUpperOnesLeave(t *testing.T) {
	store := openStore(t)
	img, err := unpack(t, store,
		pack(t, dir("d/", 0o700), regular("d/kept", "1"), regular("d/gone", "1"), dir("opaque/", 0o755), regular("opaque/old", "1"),
			dir("private/", 0o2750), regular("private/a", "1"), regular("replaced", "1"), regular("etc/passwd", "low")),
		pack(t, regular("d/.wh.gone", ""), regular("opaque/.wh..wh..opq", ""), regular("opaque/new", "2"),
			regular("private/b", "2"), dir("replaced/", 0o755), regular("replaced/inside", "2"),
			tar.Header{Name: "linked", Typeflag: tar.TypeLink, Linkname: "d/kept"}, symlink("etc2", "/etc")))
	if err != nil {
		t.Fatal(err)
	}
	root := merged(t, store, img)
	for path, want := range map[string]string{
		"d/kept": "1", "d/gone": "", "opaque/old": "", "opaque/new": "2", "private/a": "1", "private/b": "2", "replaced/inside": "2", "linked": "1",
	} {
		got, err := os.ReadFile(filepath.Join(root, path))
		if want == "" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %q, %v", path, got, err)
		}
		if want != "" && string(got) != want {
			t.Errorf("%s is %q, %v; want %q", path, got, err, want)
		}
	}
	// The folder that the second archive only implied keeps the first one's mode.
	if info, err := os.Stat(filepath.Join(root, "private")); err != nil || info.Mode() != os.ModeDir|os.ModeSetgid|0o750 {
		t.Errorf("private is %v, %v", info.Mode(), err)
	}
	tree := store.Tree(img.Lower())
	for path, want := range map[string]string{"etc/passwd": "low", "etc2/passwd": "low", "/etc2/../etc/passwd": "low", "d/gone": "", "opaque/old": "", "../../etc/shadow": ""} {
		file, err := tree.Open(path)
		if want == "" {
			if err == nil {
				t.Errorf("Open(%s) succeeds", path)
			}
			continue
		}
		if err != nil {
			t.Errorf("Open(%s): %v", path, err)
			continue
		}
		if got, _ := io.ReadAll(file); string(got) != want {
			t.Errorf("Open(%s) reads %q", path, got)
		}
		file.Close()
	}
}

func TestHostileLayersStayInside(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "victim"), []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		entries []tar.Header
	}{
		{"dots", []tar.Header{regular("../../../../../../../.."+outside+"/victim", "hit")}},
		{"absolute_name", []tar.Header{regular(outside+"/victim", "hit")}},
		{"write_through_an_absolute_link", []tar.Header{symlink("out", outside), regular("out/victim", "hit")}},
		{"write_through_a_relative_link", []tar.Header{symlink("out", "../../../../../../../.."+outside), regular("out/victim", "hit")}},
		{"write_onto_a_link", []tar.Header{symlink("victim", outside+"/victim"), regular("victim", "hit")}},
		{"hard_link_out", []tar.Header{tar.Header{Name: "victim", Typeflag: tar.TypeLink, Linkname: "../../../../.." + outside + "/victim"}, regular("victim", "hit")}},
		{"hard_link_through_a_link", []tar.Header{symlink("out", outside), {Name: "v", Typeflag: tar.TypeLink, Linkname: "out/victim"}, regular("v", "hit")}},
		{"whiteout_out", []tar.Header{symlink("out", outside), regular("out/.wh.victim", "")}},
		{"whiteout_of_the_parent", []tar.Header{regular("a/.wh...", "")}},
		{"mode_of_a_links_target", []tar.Header{symlink("out", outside), dir("out/", 0o777)}},
		{"folder_replaced_by_a_link", []tar.Header{dir("a/", 0o755), symlink("a", outside), regular("a/victim", "hit")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := openStore(t)
			if _, err := unpack(t, store, pack(t, test.entries...)); err != nil {
				t.Logf("refused: %v", err)
			}
			if got, err := os.ReadFile(filepath.Join(outside, "victim")); string(got) != "untouched" {
				t.Errorf("the file outside is %q, %v", got, err)
			}
			if info, err := os.Stat(outside); err != nil || info.Mode().Perm() == 0o777 {
				t.Errorf("the folder outside is %v, %v", info.Mode(), err)
			}
			entries, _ := os.ReadDir(outside)
			if len(entries) != 1 {
				t.Errorf("the folder outside has %v", entries)
			}
		})
	}
}

func TestHostileAttributesAreDropped(t *testing.T) {
	store := openStore(t)
	img, err := unpack(t, store, pack(t,
		tar.Header{Name: "f", Typeflag: tar.TypeReg, Linkname: "x", PAXRecords: map[string]string{
			"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.fine": "1", "SCHILY.xattr.security.selinux": "bad",
		}},
		tar.Header{Name: "w", Typeflag: tar.TypeChar}))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(store.LayerDir(), img.Lower()[0], "f")
	var value [10]byte
	if _, err := unix.Lgetxattr(file, "trusted.overlay.opaque", value[:]); err == nil {
		t.Error("an image sets overlayfs's own attribute")
	}
	if n, err := unix.Lgetxattr(file, "user.fine", value[:]); err != nil || string(value[:n]) != "1" {
		t.Errorf("a harmless attribute is %q, %v", value[:n], err)
	}
	if _, err := os.Lstat(filepath.Join(store.LayerDir(), img.Lower()[0], "w")); err == nil {
		t.Error("an image makes a whiteout as a device")
	}
}

func TestWrongContentIsRefused(t *testing.T) {
	store := openStore(t)
	archive := pack(t, regular("f", "x"))
	wrong := digest.FromString("something else")
	err := store.unpackLayers(context.Background(), []digest.Digest{wrong},
		[]source{func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }},
		func([]Layer) error { t.Error("a wrong layer is committed"); return nil })
	if err == nil || !strings.Contains(err.Error(), "does not have the digest") {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(store.LayerDir()); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestStoreOpensAfterACrash(t *testing.T) {
	store := openStore(t)
	img, err := unpack(t, store, pack(t, regular("f", "x")))
	if err != nil {
		t.Fatal(err)
	}
	// A layer that was placed but not named, and one half unpacked.
	for _, dir := range []string{filepath.Join(store.LayerDir(), "0123456789abcdef01234567"), filepath.Join(store.ingestDir(), "layer-1")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Open(store.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Collect(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := again.List(); len(got) != 1 || got[0].ID != img.ID {
		t.Errorf("images are %v", got)
	}
	if layers, _ := os.ReadDir(store.LayerDir()); len(layers) != 1 {
		t.Errorf("layers are %v", layers)
	}
}

func TestLayersLiveAsLongAsSomebodyNeedsThem(t *testing.T) {
	ctx := context.Background()
	store := openStore(t)
	shared := pack(t, regular("shared", "x"))
	first, err := unpack(t, store, shared)
	if err != nil {
		t.Fatal(err)
	}
	second, err := unpack(t, store, shared, pack(t, regular("own", "x")))
	if err != nil {
		t.Fatal(err)
	}
	count := func() int { layers, _ := os.ReadDir(store.LayerDir()); return len(layers) }
	if count() != 2 {
		t.Errorf("two images that share a layer have %d layers", count())
	}
	store.Hold(second.Lower())
	for _, img := range []*Image{first, second} {
		if err := store.Remove(ctx, img.ID); err != nil {
			t.Fatal(err)
		}
	}
	if count() != 2 {
		t.Errorf("a container's layers are deleted: %d left", count())
	}
	store.Release(second.Lower())
	if err := store.Collect(ctx); err != nil {
		t.Fatal(err)
	}
	if count() != 0 {
		t.Errorf("%d layers left", count())
	}
}

// serve starts a registry behind a handler that may interfere.
func serve(t *testing.T, interfere func(http.Handler) http.Handler) (string, Registries) {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(interfere(handler))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), Registries{Registries: []Registry{{
		Host: "*", Mirrors: []Mirror{{URL: server.URL}}, MirrorsOnly: true,
	}}}
}

func push(t *testing.T, host, ref string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(host+"/"+ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	return img
}

func layerOf(t *testing.T, archive []byte) v1.Layer {
	t.Helper()
	packed, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func plain(h http.Handler) http.Handler { return h }

func TestPull(t *testing.T) {
	ctx := context.Background()
	archive := pack(t, regular("f", "content"))
	t.Run("by_tag_and_by_digest", func(t *testing.T) {
		store := openStore(t)
		host, registries := serve(t, plain)
		pushed := push(t, host, "some/app:v1", layerOf(t, archive))
		img, err := store.Pull(ctx, "example.com/some/app:v1", registries, nil)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := pushed.Digest()
		if err != nil {
			t.Fatal(err)
		}
		byDigest, err := store.Pull(ctx, "example.com/some/app@"+manifest.String(), registries, nil)
		if err != nil {
			t.Fatal(err)
		}
		if byDigest.ID != img.ID || len(byDigest.RepoTags) != 1 || len(byDigest.RepoDigests) != 1 {
			t.Errorf("by tag %v, by digest %v", img, byDigest)
		}
		for _, name := range []string{img.ID, img.ID[7:20], "example.com/some/app:v1", byDigest.RepoDigests[0]} {
			if got, err := store.Get(name); err != nil || got.ID != img.ID {
				t.Errorf("Get(%s): %v, %v", name, got, err)
			}
		}
	})
	t.Run("what_is_missing_is_not_found", func(t *testing.T) {
		store := openStore(t)
		_, registries := serve(t, plain)
		if _, err := store.Pull(ctx, "example.com/no/such:v1", registries, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("zstd", func(t *testing.T) {
		store := openStore(t)
		host, registries := serve(t, plain)
		encoder, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		compressed := encoder.EncodeAll(archive, nil)
		raw := static.NewLayer(compressed, ggcrtypes.OCILayerZStd)
		img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: zstdLayer{raw, archive}})
		if err != nil {
			t.Fatal(err)
		}
		tag, _ := name.NewTag(host+"/z:v1", name.Insecure)
		if err := remote.Write(tag, img); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Pull(ctx, "example.com/z:v1", registries, nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("a_broken_transfer_is_resumed", func(t *testing.T) {
		store := openStore(t)
		breaks := 0
		host, registries := serve(t, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
					h.ServeHTTP(w, r)
					return
				}
				recorded := httptest.NewRecorder()
				h.ServeHTTP(recorded, r)
				body := recorded.Body.Bytes()
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				w.WriteHeader(recorded.Code)
				if len(body) > 100000 && breaks < 3 {
					breaks++
					_, _ = w.Write(body[:len(body)/2])
					panic(http.ErrAbortHandler)
				}
				_, _ = w.Write(body)
			})
		})
		var noise strings.Builder
		for i := range 200000 {
			fmt.Fprintf(&noise, "%x", digest.FromString(fmt.Sprint(i)))
			if noise.Len() > 1<<20 {
				break
			}
		}
		push(t, host, "big:v1", layerOf(t, pack(t, regular("big", noise.String()))))
		if _, err := store.Pull(ctx, "example.com/big:v1", registries, nil); err != nil {
			t.Error(err)
		}
		if breaks == 0 {
			t.Error("nothing was broken off")
		}
	})
	t.Run("credentials_are_sent", func(t *testing.T) {
		store := openStore(t)
		host, registries := serve(t, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				user, password, _ := r.BasicAuth()
				if r.Method == http.MethodGet && (user != "someone" || password != "secret") {
					w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				h.ServeHTTP(w, r)
			})
		})
		registries.Registries[0] = Registry{Host: host, PlainHTTP: true}
		img, err := mutate.AppendLayers(empty.Image, layerOf(t, archive))
		if err != nil {
			t.Fatal(err)
		}
		_ = img
		if _, err := store.Pull(ctx, host+"/private:v1", registries, nil); err == nil || !strings.Contains(err.Error(), "401") && !strings.Contains(strings.ToLower(err.Error()), "unauthorized") {
			t.Errorf("without credentials: %v", err)
		}
		if _, err := store.Pull(ctx, host+"/private:v1", registries, &Auth{Username: "someone", Password: "secret"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("with credentials: %v", err)
		}
	})
}

// zstdLayer is a layer whose compressed and plain content are both known.
type zstdLayer struct {
	v1.Layer
	plain []byte
}

func (l zstdLayer) DiffID() (v1.Hash, error) {
	return v1.NewHash(digest.FromBytes(l.plain).String())
}

func TestImportRefusesWhatIsNoArchive(t *testing.T) {
	store := openStore(t)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write(pack(t, regular("readme", "x")))
	w.Close()
	for name, content := range map[string][]byte{
		"empty": {}, "text": []byte(strings.Repeat("no archive at all\n", 100)), "other_archive": pack(t, regular("readme", "x")), "other_compressed": zipped.Bytes(),
		"cut_off": pack(t, regular("manifest.json", "[]"))[:700],
	} {
		t.Run(name, func(t *testing.T) {
			if names, err := store.Import(context.Background(), bytes.NewReader(content)); err == nil {
				t.Errorf("imported %v", names)
			} else if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has more than one line: %v", err)
			}
		})
	}
	if left, _ := os.ReadDir(store.ingestDir()); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
