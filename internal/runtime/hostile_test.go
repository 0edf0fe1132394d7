package runtime

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const hostileImage = "clipper.dev/hostile:v1"

// importHostile makes an image of the probe and further files.
func (n *node) importHostile(config map[string]any, files ...file) {
	n.t.Helper()
	binary, err := os.ReadFile(program(n.t, "probe"))
	if err != nil {
		n.t.Fatal(err)
	}
	files = append([]file{{name: "probe", content: string(binary), mode: 0o755}, {name: "tmp/", mode: 0o1777}}, files...)
	config["Entrypoint"] = []string{"/probe"}
	n.importArchive(dockerArchive(n.t, hostileImage, config, layer(n.t, files...)))
}

// hostile describes a container of that image.
func (p *pod) hostile(args ...string) *runtimeapi.ContainerConfig {
	config := p.containerConfig(args...)
	config.Image.Image = hostileImage
	return config
}

// tryOutput runs a container that may be refused, and returns what it wrote or why it was.
func (p *pod) tryOutput(config *runtimeapi.ContainerConfig) string {
	p.t.Helper()
	created, err := p.CreateContainer(context.Background(), &runtimeapi.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config})
	if err != nil {
		return err.Error()
	}
	if _, err := p.StartContainer(context.Background(), &runtimeapi.StartContainerRequest{ContainerId: created.ContainerId}); err != nil {
		return err.Error()
	}
	p.waitExit(created.ContainerId)
	return p.log(created.ContainerId)
}

// outside is a folder of the node that no container may reach, with one file; the check is that both stay as they are.
func outside(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("the node's"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		entries, err := os.ReadDir(dir)
		if data, readErr := os.ReadFile(victim); err != nil || readErr != nil || len(entries) != 1 || string(data) != "the node's" {
			t.Errorf("the node's folder holds %v, its file %q (%v, %v)", entries, data, err, readErr)
		}
	})
	return dir
}

func TestLinksInAnImageLeadNoMountOutside(t *testing.T) {
	n := newNode(t)
	dir := outside(t)
	p := n.runPod(func(config *runtimeapi.PodSandboxConfig) {
		config.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"192.0.2.1"}}
	})
	up := strings.Repeat("../", 12)
	for _, place := range []string{"data", "etc", "proc", "dev", "sys", "etc/resolv.conf", "etc/hostname", "dev/shm"} {
		for kind, target := range map[string]string{"an_absolute_link": dir, "a_link_upwards": up + dir} {
			t.Run(place+"_as_"+kind, func(t *testing.T) {
				files := []file{}
				if parent := filepath.Dir(place); parent != "." {
					files = append(files, file{name: parent + "/", mode: 0o755})
				}
				if strings.Contains(place, "resolv") || strings.Contains(place, "hostname") {
					target += "/victim"
				}
				n.importHostile(map[string]any{}, append(files, file{name: place, link: target, mode: 0o777})...)
				config := p.hostile("write", "/data/written", "hit")
				mounted := t.TempDir()
				config.Mounts = []*runtimeapi.Mount{{HostPath: mounted, ContainerPath: "/data"}, {HostPath: mounted, ContainerPath: "/etc/made/here"}, {HostPath: mounted, ContainerPath: "/data/made"}}
				p.tryOutput(config)
			})
		}
	}
}

func TestAWorkingDirectoryLeadsNowhereElse(t *testing.T) {
	n := newNode(t)
	dir := outside(t)
	p := n.runPod()
	places := []string{"/proc/self/cwd", "/proc/1/root", "/proc/self/root/../..", "/link", "/../../../.."}
	for fd := range 14 {
		places = append(places, fmt.Sprintf("/proc/self/fd/%d", fd), fmt.Sprintf("/proc/self/fd/%d/..", fd))
	}
	n.importHostile(map[string]any{}, file{name: "link", link: "/proc/self/fd/7"})
	for _, place := range places {
		config := p.hostile("climb", dir+"/victim")
		config.WorkingDir = place
		if got := p.tryOutput(config); strings.Contains(got, "the node's") {
			t.Errorf("from working directory %s: %s", place, got)
		}
	}
}

func TestExecutedArgumentsStayInTheContainer(t *testing.T) {
	n := newNode(t)
	dir := outside(t)
	p := n.runPod()
	n.importHostile(map[string]any{}, file{name: "again", content: "#!/proc/self/exe init\n", mode: 0o755})
	id := p.ready(p.hostile("pause"))
	for _, args := range [][]string{
		{"/again"}, {"/proc/self/exe", "init"}, {"/proc/self/exe", "clipper-entry"}, {"/proc/self/fd/3"}, {"../../../../.." + dir + "/victim"}, {""}, {"/probe\x00x"},
		{"-"}, {"--", "/probe"}, {"/probe", "read", "../../../../../../.." + dir + "/victim"}, {"/proc/1/root/../.." + dir + "/victim"}, {"/probe", "read", "/proc/self/cwd/../../../.." + dir + "/victim"},
	} {
		response, err := n.ExecSync(context.Background(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: args, Timeout: 5})
		if err == nil && strings.Contains(string(response.Stdout)+string(response.Stderr), "the node's") {
			t.Errorf("%q reads the node's file", args)
		}
	}
	if got := n.exec(id, "/probe", "say", "alive"); string(got.Stdout) != "alive\n" {
		t.Errorf("afterwards the container answers %q", got.Stdout)
	}
}

// TestAContainerCannotOverwriteTheKeeper is what CVE-2019-5736 did to runc: an exec that runs the runtime's own program inside, and somebody
// there who opens it.
func TestAContainerCannotOverwriteTheKeeper(t *testing.T) {
	n := newNode(t)
	sum := func() string {
		data, err := os.ReadFile(n.config.KeeperPath)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(data))
	}
	before := sum()
	p := n.runPod()
	n.importHostile(map[string]any{}, file{name: "again", content: "#!/proc/self/exe\n", mode: 0o755})
	config := p.hostile("overwrite", "/probe")
	config.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"ALL"}}
	id := p.ready(config)
	for !strings.Contains(n.log(id), "done\n") {
		for _, args := range [][]string{{"/again"}, {"/proc/self/exe", "init"}, {"/probe", "say", "x"}} {
			_, _ = n.ExecSync(context.Background(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: args, Timeout: 2}) // fails by design, or by the container's end
		}
	}
	if got := n.log(id); strings.Contains(got, "wrote") {
		t.Errorf("a container wrote over a program of the node:\n%s", got)
	}
	if sum() != before {
		t.Error("the keeper's file has changed")
	}
	if got := p.output(p.containerConfig("say", "alive")); got != "alive\n" {
		t.Errorf("afterwards a container says %q", got)
	}
}

// TestASwappedFolderLeadsNoMountOutside starts containers whose mounts lie in a volume in which another one swaps a folder and a link.
func TestASwappedFolderLeadsNoMountOutside(t *testing.T) {
	n := newNode(t)
	dir := outside(t)
	p := n.runPod()
	shared, message := t.TempDir(), filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(message, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(shared, "d"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(shared, "link")); err != nil {
		t.Fatal(err)
	}
	volume := &runtimeapi.Mount{HostPath: shared, ContainerPath: "/v"}
	racer := p.containerConfig("swap", "/v/d", "/v/link")
	racer.Mounts = []*runtimeapi.Mount{volume}
	p.ready(racer)
	for i := range 15 {
		config := p.containerConfig("write", fmt.Sprintf("/v/d/made%d/file", i), "hit")
		config.Mounts = []*runtimeapi.Mount{volume, {HostPath: message, ContainerPath: fmt.Sprintf("/v/d/message%d", i)}, {HostPath: shared, ContainerPath: fmt.Sprintf("/v/d/made%d", i)}}
		p.tryOutput(config)
	}
}
