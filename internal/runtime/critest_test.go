package runtime

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"clipper.dev/clipper/internal/network"
	"clipper.dev/clipper/internal/runtime/image"
)

// TestCritest runs the validation suite of sigs.k8s.io/cri-tools against the runtime with its real network ("make critest"). It
// needs two programs that are not part of this repository:
//
//	CLIPPER_CRITEST=/path/critest CLIPPER_BUSYBOX=/path/busybox go test ./internal/runtime -run TestCritest -v -timeout 30m
//
// Further words in CLIPPER_CRITEST_FLAGS go to critest, such as -ginkgo.focus=…. The suite's images come from a registry on
// loopback, put together from busybox (one whose shell executes the tools that it has built in) and stand-ins for the rest.
func TestCritest(t *testing.T) {
	suite, busybox := os.Getenv("CLIPPER_CRITEST"), os.Getenv("CLIPPER_BUSYBOX")
	if suite == "" || busybox == "" {
		t.Skip("CLIPPER_CRITEST and CLIPPER_BUSYBOX are not set")
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	digest := pushCritestImages(t, strings.TrimPrefix(server.URL, "http://"), busybox)
	pods := critestNetwork(t)
	n := newNode(t, func(config *Config) {
		config.Network = pods
		config.Registries = image.Registries{Registries: []image.Registry{{
			Host: "*", Mirrors: []image.Mirror{{URL: server.URL}}, MirrorsOnly: true,
		}}}
	})
	dir := t.TempDir()
	report := filepath.Join(dir, "report.json")
	args := []string{"-runtime-endpoint", "unix://" + n.config.Socket, "-image-endpoint", "unix://" + n.config.Socket, "-ginkgo.json-report", report}
	args = append(args, strings.Fields(os.Getenv("CLIPPER_CRITEST_FLAGS"))...)
	cmd := exec.Command(suiteFor(t, suite, digest), args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Dir = dir
	if err := cmd.Run(); err != nil {
		t.Errorf("critest: %v", err)
	}
	checkSkipped(t, report)
}

// pinnedDigest is the content by which the suite asks for one of its images. A stand-in cannot have it.
const pinnedDigest = "9700f9a2f5bf2c45f2f605a0bd3bce7cf37420ec9d3ed50ac2758413308766bf"

// suiteFor is a copy of the suite that asks for the stand-in's content.
func suiteFor(t *testing.T, suite, digest string) string {
	t.Helper()
	program, err := os.ReadFile(suite)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(program, []byte(pinnedDigest)) {
		t.Fatalf("%s does not ask for the image %s", suite, pinnedDigest)
	}
	path := filepath.Join(t.TempDir(), "critest")
	if err := os.WriteFile(path, bytes.ReplaceAll(program, []byte(pinnedDigest), []byte(digest)), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// skippable says, by what specs' names contain, what this machine may lack for them. Benchmarks are no validation; the suite leaves them out of its own accord.
var skippable = map[string]string{
	"AppArmor":  "the kernel has no AppArmor",
	"benchmark": "a measurement",
}

// checkSkipped lists the specs that the suite left out, and complains of those that it should not have.
func checkSkipped(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts []string
			LeafNodeText, State     string
			Failure                 struct{ Message string }
		}
	}
	if err := json.Unmarshal(data, &suites); err != nil {
		t.Fatal(err)
	}
	for _, suite := range suites {
		for _, spec := range suite.SpecReports {
			if spec.State != "skipped" {
				continue
			}
			name := strings.Join(append(spec.ContainerHierarchyTexts, spec.LeafNodeText), " ")
			found := slices.ContainsFunc(slices.Collect(maps.Keys(skippable)), func(part string) bool { return strings.Contains(name, part) })
			if !found && os.Getenv("CLIPPER_CRITEST_FLAGS") == "" {
				t.Errorf("%s was skipped: %s", name, spec.Failure.Message)
				continue
			}
			t.Logf("skipped: %s %s", name, spec.Failure.Message)
		}
	}
}

func critestNetwork(t *testing.T) network.Pods {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	config := network.Config{
		Bridge: "critest0", Table: "clipper-critest", StateDir: t.TempDir(), MTU: 1500, NodeName: "critest",
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.231.0.0/16")}, Logger: slog.New(slog.DiscardHandler),
	}
	pods, err := network.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := pods.SetPodCIDRs(context.Background(), []netip.Prefix{netip.MustParsePrefix("10.231.7.0/24")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Purge(config); err != nil {
			t.Error(err)
		}
	})
	return pods
}

// files packs a map of paths and contents.
func files(t *testing.T, content map[string]string, links ...string) v1.Layer {
	t.Helper()
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	write := func(header *tar.Header, data string) {
		header.Size = int64(len(data))
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, data); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(content)) {
		data := content[file]
		if strings.HasSuffix(file, "/") {
			mode := int64(0o755)
			if file == "tmp/" {
				mode = 0o1777
			}
			write(&tar.Header{Name: file, Typeflag: tar.TypeDir, Mode: mode}, "")
			continue
		}
		mode := int64(0o644)
		if dir := path.Dir(file); dir == "bin" || dir == "usr/sbin" || strings.HasPrefix(dir, "lib") {
			mode = 0o755
		}
		if file == "usr/sbin/nonewprivs" {
			mode = 0o4755
		}
		write(&tar.Header{Name: file, Typeflag: tar.TypeReg, Mode: mode}, data)
	}
	for _, link := range links {
		if link == "busybox" {
			continue
		}
		write(&tar.Header{Name: "bin/" + link, Typeflag: tar.TypeLink, Linkname: "bin/busybox", Mode: 0o755}, "")
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	packed, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// critestBase is an image with busybox's tools and some accounts.
func critestBase(t *testing.T, busybox string) v1.Image {
	t.Helper()
	binary, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	standin, err := os.ReadFile(program(t, "standin"))
	if err != nil {
		t.Fatal(err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{
		"bin/busybox": string(binary), "usr/sbin/pgrep": string(standin), "usr/sbin/ipcs": string(standin), "tmp/": "", "var/": "", "var/run/": "", "root/": "", "home/": "", "etc/": "", "usr/": "", "usr/sbin/": "",
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\ndefault-user:x:1000:1000::/home/default-user:/bin/sh\n",
		"etc/group":  "root:x:0:\nusers:x:100:\nwww-data:x:33:\nnobody:x:65534:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n",
	}
	addLibraries(t, content, busybox)
	base, err := mutate.AppendLayers(empty.Image, files(t, content, strings.Fields(string(applets))...))
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// addLibraries adds what a program is linked with; nothing if it is linked statically.
func addLibraries(t *testing.T, content map[string]string, program string) {
	t.Helper()
	list, _ := exec.Command("ldd", program).Output() // fails for a static one
	for _, word := range strings.Fields(string(list)) {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		library, err := os.ReadFile(word)
		if err != nil {
			t.Fatal(err)
		}
		content[strings.TrimPrefix(word, "/")] = string(library)
	}
}

// pushCritestImages returns the digest of the image that the suite asks for by digest.
func pushCritestImages(t *testing.T, host, busybox string) (pinned string) {
	t.Helper()
	base := critestBase(t, busybox)
	configured := func(img v1.Image, change func(*v1.Config), layers ...v1.Layer) v1.Image {
		img, err := mutate.AppendLayers(img, layers...)
		if err != nil {
			t.Fatal(err)
		}
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		file = file.DeepCopy()
		file.OS, file.Architecture = "linux", "amd64"
		change(&file.Config)
		if img, err = mutate.ConfigFile(img, file); err != nil {
			t.Fatal(err)
		}
		return img
	}
	user := func(name string) v1.Image { return configured(base, func(c *v1.Config) { c.User = name }) }
	marked := func(mark string) v1.Image {
		return configured(base, func(c *v1.Config) { c.Cmd = []string{"sh"} }, files(t, map[string]string{"mark": mark}))
	}
	shell := configured(base, func(c *v1.Config) { c.Cmd = []string{"sh"} })
	server, err := os.ReadFile(program(t, "standin"))
	if err != nil {
		t.Fatal(err)
	}
	nginx := func(port string) v1.Image {
		return configured(base, func(c *v1.Config) {
			c.Entrypoint, c.Env = []string{"/usr/sbin/nginx", "master process"}, []string{"PORT=" + port}
		}, files(t, map[string]string{"usr/sbin/nginx": string(server)}))
	}
	httpd := configured(base, func(c *v1.Config) { c.Entrypoint = []string{"/usr/sbin/httpd"} }, files(t, map[string]string{"usr/sbin/httpd": string(server)}))
	nonewprivs := configured(base, func(c *v1.Config) { c.Entrypoint = []string{"/usr/sbin/nonewprivs"} }, files(t, map[string]string{"usr/sbin/nonewprivs": string(server)}))
	const cri = "k8s-staging-cri-tools/"
	same := marked("same")
	for ref, img := range map[string]v1.Image{
		"e2e-test-images/busybox:1.29-2": shell, "e2e-test-images/nginx:1.14-2": nginx("80"), cri + "hostnet-nginx-amd64:latest": nginx("12003"),
		"e2e-test-images/httpd:2.4.39-4": httpd, "e2e-test-images/nonewprivs:1.3": nonewprivs,
		cri + "test-image-user-uid:latest": user("1002"), cri + "test-image-user-username:latest": user("www-data"),
		cri + "test-image-user-uid-group:latest": user("1003:1004"), cri + "test-image-user-username-group:latest": user("www-data:1004"),
		cri + "test-image-predefined-group:latest": user("1000"), cri + "test-image-latest:latest": marked("latest"),
		cri + "test-image-tag:test": marked("test"), cri + "test-image-tag:all": marked("all"), cri + "test-image-digest:latest": marked("digest"),
		cri + "test-image-1:latest": marked("1"), cri + "test-image-2:latest": marked("2"), cri + "test-image-3:latest": marked("3"),
		cri + "test-image-tags:1": same, cri + "test-image-tags:2": same, cri + "test-image-tags:3": same, "pause:3.9": marked("pause"),
	} {
		tag, err := name.NewTag(host+"/"+ref, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(tag, img); err != nil {
			t.Fatalf("push %s: %v", ref, err)
		}
		if strings.Contains(ref, "test-image-digest") {
			digest, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			pinned = digest.Hex
		}
	}
	return pinned
}
