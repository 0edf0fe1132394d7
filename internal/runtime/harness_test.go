package runtime

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/network"
)

const probeImage = "clipper.test/probe:v1"

// programsEnv names a folder that has the programs, for a machine that cannot build them.
const programsEnv = "CLIPPER_TEST_PROGRAMS"

// programs are the binaries that tests need: the keeper and the probe.
var programs = sync.OnceValues(func() (map[string]string, error) {
	if dir := os.Getenv(programsEnv); dir != "" {
		built := map[string]string{}
		for _, name := range []string{"keeper", "probe", "standin"} {
			built[name] = filepath.Join(dir, name)
		}
		return built, nil
	}
	dir, err := os.MkdirTemp("", "clipper-runtime-test-")
	if err != nil {
		return nil, err
	}
	built := map[string]string{}
	for name, build := range map[string]struct{ pkg, cgo string }{
		"keeper":  {"clipper.dev/clipper/cmd/clipper-keeper", "1"},
		"probe":   {"./testdata/probe", "0"},
		"standin": {"./testdata/standin", "0"},
	} {
		path := filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, build.pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+build.cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %s: %w", name, out, err)
		}
		built[name] = path
	}
	return built, nil
})

func program(t testing.TB, name string) string {
	t.Helper()
	built, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return built[name]
}

// helperEnv makes the test's own program a runtime in a process of its own, which a test can kill.
const helperEnv = "CLIPPER_TEST_RUNTIME"

func TestMain(m *testing.M) {
	if text := os.Getenv(helperEnv); text != "" {
		os.Unsetenv(helperEnv)
		if err := serveAsHelper(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if built, err := programs(); err == nil && os.Getenv(programsEnv) == "" {
		os.RemoveAll(filepath.Dir(built["keeper"]))
	}
	os.Exit(code)
}

// serveAsHelper runs a runtime with a configuration from the environment until it is killed.
func serveAsHelper(text string) error {
	var config Config
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	config.Network = loopbackOnly{}
	config.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	rt, err := New(config)
	if err != nil {
		return err
	}
	return rt.Serve(context.Background())
}

// loopbackOnly is a pod network without a network.
type loopbackOnly struct{}

func (loopbackOnly) Attach(_ context.Context, pod network.Sandbox) ([]netip.Addr, error) {
	done := make(chan error)
	go func() {
		goruntime.LockOSThread()
		done <- func() error {
			if err := unix.Setns(int(pod.NetNS.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(lo)
		}()
	}()
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, <-done
}

func (loopbackOnly) Detach(context.Context, string) error              { return nil }
func (loopbackOnly) Addresses(string) ([]netip.Addr, bool)             { return nil, false }
func (loopbackOnly) SetPodCIDRs(context.Context, []netip.Prefix) error { return nil }
func (loopbackOnly) Ready() error                                      { return nil }

// node is a runtime under test and its clients.
type node struct {
	t      testing.TB
	config Config
	runtimeapi.RuntimeServiceClient
	images runtimeapi.ImageServiceClient
	logs   string
	stop   func()
}

// newNode starts a runtime with folders and cgroups of its own, and the probe image.
func newNode(t testing.TB, change ...func(*Config)) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	name := "cliptest" + newID()[:8]
	state, run := t.TempDir(), filepath.Join("/run", name)
	n := &node{t: t, logs: filepath.Join(state, "podlogs"), config: Config{
		StateDir: filepath.Join(state, "state"), RunDir: run, Socket: filepath.Join(run, "cri.sock"),
		KeeperPath: program(t, "keeper"), CgroupRoot: name, Network: loopbackOnly{},
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}}
	for _, c := range change {
		c(&n.config)
	}
	t.Cleanup(n.cleanup)
	n.start()
	n.importProbe()
	return n
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// start runs the runtime until stop is called.
func (n *node) start() {
	n.t.Helper()
	rt, err := New(n.config)
	if err != nil {
		n.t.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- rt.Serve(ctx) }()
	conn, err := grpc.NewClient("unix://"+n.config.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	n.RuntimeServiceClient = runtimeapi.NewRuntimeServiceClient(conn)
	n.images = runtimeapi.NewImageServiceClient(conn)
	n.stop = func() {
		conn.Close()
		cancel()
		if err := <-served; err != nil {
			n.t.Errorf("Serve: %v", err)
		}
		n.stop = nil
	}
	if _, err := n.Version(context.Background(), &runtimeapi.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
		n.t.Fatalf("Version: %v", err)
	}
}

// restart stops the runtime and starts another one in its place; containers run on.
func (n *node) restart() {
	n.t.Helper()
	n.stop()
	n.start()
}

func (n *node) cleanup() {
	if n.stop == nil {
		n.start()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	pods, err := n.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		n.t.Errorf("list sandboxes: %v", err)
	}
	for _, pod := range pods.GetItems() {
		if _, err := n.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod.Id}); err != nil {
			n.t.Errorf("remove sandbox: %v", err)
		}
	}
	n.stop()
	n.purge()
}

// purge ends the keeper and removes what is left outside the test's folders, which must be almost nothing.
func (n *node) purge() {
	if err := Purge(context.Background(), n.config); err != nil {
		n.t.Errorf("purge: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.t.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, n.config.RunDir) || strings.Contains(line, n.config.StateDir) {
			n.t.Errorf("mount left behind: %s", line)
		}
	}
	left, _ := filepath.Glob("/sys/fs/cgroup/*/" + n.config.CgroupRoot)
	unified, _ := filepath.Glob("/sys/fs/cgroup/" + n.config.CgroupRoot)
	left = append(left, unified...)
	if len(left) > 0 {
		n.t.Errorf("cgroups left behind: %v", left)
	}
	if _, err := os.Stat(n.config.RunDir); err == nil {
		n.t.Errorf("folder left behind: %s", n.config.RunDir)
	}
}

// file is an entry of a test image.
type file struct {
	name, content, link string
	mode                int64
	uid                 int
}

// layer packs files.
func layer(t testing.TB, files ...file) []byte {
	t.Helper()
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg, Uid: f.uid}
		switch {
		case f.link != "":
			header.Typeflag, header.Linkname = tar.TypeSymlink, f.link
		case strings.HasSuffix(f.name, "/"):
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// dockerArchive packs an image as "docker save" does.
func dockerArchive(t testing.TB, tag string, config map[string]any, layers ...[]byte) []byte {
	t.Helper()
	var diffIDs, names []string
	var files []file
	for i, l := range layers {
		sum := sha256.Sum256(l)
		diffIDs = append(diffIDs, "sha256:"+hex.EncodeToString(sum[:]))
		name := fmt.Sprintf("%d/layer.tar", i)
		names = append(names, name)
		files = append(files, file{name: name, content: string(l), mode: 0o644})
	}
	imageConfig, err := json.Marshal(map[string]any{
		"architecture": goruntime.GOARCH, "os": "linux", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{tag}, "Layers": names}})
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, file{name: "config.json", content: string(imageConfig), mode: 0o644},
		file{name: "manifest.json", content: string(manifest), mode: 0o644})
	return layer(t, files...)
}

func (n *node) importProbe() {
	n.t.Helper()
	binary, err := os.ReadFile(program(n.t, "probe"))
	if err != nil {
		n.t.Fatal(err)
	}
	base := layer(n.t, file{name: "probe", content: string(binary), mode: 0o755}, file{name: "tmp/", mode: 0o1777},
		file{name: "etc/", mode: 0o755},
		file{name: "etc/passwd", mode: 0o644, content: "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n"},
		file{name: "etc/group", mode: 0o644, content: "root:x:0:\nalice:x:1000:\nfriends:x:2000:alice\n"})
	top := layer(n.t, file{name: "hello", content: "hello from the image\n", mode: 0o644})
	archive := dockerArchive(n.t, probeImage, map[string]any{"Entrypoint": []string{"/probe"}, "Env": []string{"FROM=image"}}, base, top)
	n.importArchive(archive)
}

func (n *node) importArchive(archive []byte) []string {
	n.t.Helper()
	client, err := DialImages(n.config.Socket)
	if err != nil {
		n.t.Fatal(err)
	}
	defer client.Close()
	names, err := client.Import(context.Background(), bytes.NewReader(archive))
	if err != nil {
		n.t.Fatalf("import: %v", err)
	}
	return names
}

// podConfig is a pod's configuration with a name of its own.
func (n *node) podConfig() *runtimeapi.PodSandboxConfig {
	id := newID()[:12]
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: "pod-" + id, Uid: id, Namespace: "default"},
		Hostname:     "pod-" + id,
		LogDirectory: filepath.Join(n.logs, id),
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: "/" + n.config.CgroupRoot + "/pod" + id,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
}

// pod is a sandbox under test.
type pod struct {
	*node
	id     string
	config *runtimeapi.PodSandboxConfig
	count  uint32
}

func (n *node) runPod(change ...func(*runtimeapi.PodSandboxConfig)) *pod {
	n.t.Helper()
	config := n.podConfig()
	for _, c := range change {
		c(config)
	}
	response, err := n.RunPodSandbox(context.Background(), &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		n.t.Fatalf("RunPodSandbox: %v", err)
	}
	return &pod{node: n, id: response.PodSandboxId, config: config}
}

// containerConfig describes a container that runs the probe.
func (p *pod) containerConfig(args ...string) *runtimeapi.ContainerConfig {
	p.count++
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: fmt.Sprintf("c%d", p.count)},
		Image:    &runtimeapi.ImageSpec{Image: probeImage},
		Args:     args, LogPath: fmt.Sprintf("c%d.log", p.count),
		Linux: &runtimeapi.LinuxContainerConfig{
			Resources: &runtimeapi.LinuxContainerResources{OomScoreAdj: 500},
			SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
				NamespaceOptions: p.config.Linux.SecurityContext.NamespaceOptions,
				Seccomp:          &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
				MaskedPaths:      []string{"/proc/kcore", "/proc/keys", "/sys/firmware"},
				ReadonlyPaths:    []string{"/proc/sys", "/proc/sysrq-trigger"},
			},
		},
	}
}

func (p *pod) create(config *runtimeapi.ContainerConfig) string {
	p.t.Helper()
	created, err := p.CreateContainer(context.Background(), &runtimeapi.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config})
	if err != nil {
		p.t.Fatalf("CreateContainer: %v", err)
	}
	return created.ContainerId
}

func (p *pod) start(config *runtimeapi.ContainerConfig) string {
	p.t.Helper()
	id := p.create(config)
	if _, err := p.StartContainer(context.Background(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		p.t.Fatalf("StartContainer: %v", err)
	}
	return id
}

// run starts the probe with arguments.
func (p *pod) run(args ...string) string {
	p.t.Helper()
	return p.start(p.containerConfig(args...))
}

func (n *node) status(id string) *runtimeapi.ContainerStatus {
	n.t.Helper()
	response, err := n.ContainerStatus(context.Background(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		n.t.Fatalf("ContainerStatus: %v", err)
	}
	return response.Status
}

// eventually waits for a condition.
func (n *node) eventually(what string, condition func() bool) {
	n.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			n.t.Fatalf("never came true: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// waitExit waits for a container's end.
func (n *node) waitExit(id string) *runtimeapi.ContainerStatus {
	n.t.Helper()
	n.eventually("container ends", func() bool {
		return n.status(id).State == runtimeapi.ContainerState_CONTAINER_EXITED
	})
	return n.status(id)
}

// log returns the lines of a container's log without their heads.
func (n *node) log(id string) string {
	n.t.Helper()
	data, err := os.ReadFile(n.status(id).LogPath)
	if err != nil {
		n.t.Fatalf("read log: %v", err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(line, " ", 4)
		if len(parts) < 4 {
			n.t.Fatalf("malformed log line %q", line)
		}
		if _, err := time.Parse(time.RFC3339Nano, parts[0]); err != nil {
			n.t.Fatalf("malformed time in log line %q", line)
		}
		content := parts[3]
		if parts[2] == "P" {
			content = strings.TrimSuffix(content, "\n")
		}
		text.WriteString(content)
	}
	return text.String()
}

// ready starts the probe and waits until it says so: a first process ignores signals that it does not handle yet.
func (p *pod) ready(config *runtimeapi.ContainerConfig) string {
	p.t.Helper()
	id := p.start(config)
	p.eventually("the probe is ready", func() bool { return strings.HasPrefix(p.log(id), "ready\n") })
	return id
}

// output runs the probe to its end and returns what it wrote.
func (p *pod) output(config *runtimeapi.ContainerConfig) string {
	p.t.Helper()
	id := p.start(config)
	p.waitExit(id)
	return p.log(id)
}

func (n *node) exec(id string, args ...string) *runtimeapi.ExecSyncResponse {
	n.t.Helper()
	response, err := n.ExecSync(context.Background(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: args, Timeout: 20})
	if err != nil {
		n.t.Fatalf("ExecSync %v: %v", args, err)
	}
	return response
}
