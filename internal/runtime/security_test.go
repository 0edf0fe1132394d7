package runtime

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ask sends a line to a port and returns the answer; the server may still be coming up.
func ask(t *testing.T, port uint16, line string) string {
	t.Helper()
	for range 100 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(conn, line)
		answer, _ := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if answer != "" {
			return answer
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ""
}

func TestSecurityContext(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	type context = runtimeapi.LinuxContainerSecurityContext
	for _, test := range []struct {
		name   string
		args   []string
		change func(*context)
		want   string // in the output
		not    string // not in it
	}{
		{"root_by_default", []string{"id"}, nil, "0 0 [0]", ""},
		{"run_as_a_number", []string{"id"}, func(c *context) { c.RunAsUser = &runtimeapi.Int64Value{Value: 1000} }, "1000 1000 [1000 2000]", ""},
		{"run_as_a_name", []string{"id"}, func(c *context) { c.RunAsUsername = "alice" }, "1000 1000 [1000 2000]", ""},
		{"strict_groups", []string{"id"}, func(c *context) {
			c.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
			c.SupplementalGroups = []int64{3000}
			c.SupplementalGroupsPolicy = runtimeapi.SupplementalGroupsPolicy_Strict
		}, "1000 1000 [1000 3000]", ""},
		{"run_as_a_group", []string{"id"}, func(c *context) {
			c.RunAsUser = &runtimeapi.Int64Value{Value: 5}
			c.RunAsGroup = &runtimeapi.Int64Value{Value: 6}
		}, "5 6 [6]", ""},
		{"default_filter", []string{"status"}, nil, "Seccomp:\t2", ""},
		{"default_filter_refuses_namespaces", []string{"unshare"}, nil, "errno 1", ""},
		{"default_filter_for_an_unprivileged_user", []string{"status"}, func(c *context) {
			c.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
		}, "Seccomp:\t2", ""},
		{"a_filter_does_not_bring_no_new_privileges", []string{"status"}, func(c *context) {
			c.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
		}, "NoNewPrivs:\t0", ""},
		{"no_new_privileges", []string{"status"}, func(c *context) { c.NoNewPrivs = true }, "NoNewPrivs:\t1", ""},
		{"no_filter", []string{"status"}, func(c *context) { c.Seccomp.ProfileType = runtimeapi.SecurityProfile_Unconfined }, "Seccomp:\t0", ""},
		{"default_capabilities", []string{"status"}, nil, "CapBnd:\t00000000a80425fb", ""},
		{"no_capabilities", []string{"status"}, func(c *context) {
			c.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}}
		}, "CapEff:\t0000000000000000", ""},
		{"one_capability", []string{"status"}, func(c *context) {
			c.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_ADMIN"}}
		}, "CapEff:\t0000000000001000", ""},
		{"capabilities_of_an_unprivileged_user_are_not_effective", []string{"status"}, func(c *context) {
			c.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
		}, "CapEff:\t0000000000000000", ""},
		{"mounting_is_refused", []string{"mount"}, nil, "error: operation not permitted", ""},
		{"privileged_may_mount", []string{"mount"}, func(c *context) { c.Privileged = true }, "", "error"},
		{"read_only_root", []string{"write", "/file", "x"}, func(c *context) { c.ReadonlyRootfs = true }, "read-only file system", ""},
		{"writable_root", []string{"write", "/file", "x"}, nil, "", "error"},
		{"masked_path", []string{"read", "/proc/keys"}, nil, "", "keyring"},
		{"read_only_path", []string{"write", "/proc/sys/kernel/domainname", "x"}, nil, "read-only file system", ""},
		{"no_signals_are_ignored_or_blocked", []string{"status"}, nil, "SigBlk:\t0000000000000000", ""},
		{"no_files_of_the_keeper_are_open", []string{"fds"}, nil, "0 /dev/null", "stage"},
		{"a_process_namespace_of_its_own", []string{"link", "/proc/self"}, nil, "1 <nil>", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := p.containerConfig(test.args...)
			if test.change != nil {
				test.change(config.Linux.SecurityContext)
			}
			got := p.output(config)
			if !strings.Contains(got, test.want) || (test.not != "" && strings.Contains(got, test.not)) {
				t.Errorf("got %q, want %q, not %q", got, test.want, test.not)
			}
		})
	}
}

func TestLocalhostProfile(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	profile := filepath.Join(t.TempDir(), "profile.json")
	content := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["sethostname","uname"],"action":"SCMP_ACT_ERRNO","errnoRet":77}]}`
	if err := os.WriteFile(profile, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	config := p.containerConfig("status")
	config.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: profile}
	if got := p.output(config); !strings.Contains(got, "Seccomp:\t2") {
		t.Errorf("got %q", got)
	}
}

func TestEnvironmentAndFiles(t *testing.T) {
	n := newNode(t)
	p := n.runPod(func(config *runtimeapi.PodSandboxConfig) {
		config.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"default.svc", "svc"}, Options: []string{"ndots:5"}}
	})
	config := p.containerConfig("env")
	config.Envs = []*runtimeapi.KeyValue{{Key: "FROM", Value: []byte("pod")}, {Key: "EMPTY"}}
	env := p.output(config)
	for _, want := range []string{"FROM=pod\n", "EMPTY=\n", "PATH=/usr/local/sbin", "HOSTNAME=" + p.config.Hostname} {
		if !strings.Contains(env, want) {
			t.Errorf("environment %q lacks %q", env, want)
		}
	}
	if got := p.output(p.containerConfig("read", "/etc/resolv.conf")); got != "search default.svc svc\nnameserver 10.96.0.10\noptions ndots:5\n" {
		t.Errorf("resolver configuration is %q", got)
	}
	if got := p.output(p.containerConfig("read", "/hello")); got != "hello from the image\n" {
		t.Errorf("the image's file is %q", got)
	}
	if got := p.output(p.containerConfig("hostname")); got != p.config.Hostname+"\n" {
		t.Errorf("host name is %q", got)
	}
}

func TestMounts(t *testing.T) {
	n := newNode(t)
	p := n.runPod()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("from the node\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mounted := func(m *runtimeapi.Mount, args ...string) string {
		config := p.containerConfig(args...)
		config.Mounts = []*runtimeapi.Mount{m}
		return p.output(config)
	}
	if got := mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/data", Readonly: true}, "read", "/data/file"); got != "from the node\n" {
		t.Errorf("got %q", got)
	}
	if got := mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/data", Readonly: true}, "write", "/data/new", "x"); !strings.Contains(got, "read-only") {
		t.Errorf("a read-only mount was written: %q", got)
	}
	if got := mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/data", Readonly: true, RecursiveReadOnly: true}, "write", "/data/new", "x"); !strings.Contains(got, "read-only") {
		t.Errorf("a recursively read-only mount was written: %q", got)
	}
	mounted(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/data"}, "write", "/data/new", "written")
	if got, _ := os.ReadFile(filepath.Join(dir, "new")); string(got) != "written" {
		t.Errorf("the node sees %q", got)
	}
	if got := mounted(&runtimeapi.Mount{ContainerPath: "/other", Image: &runtimeapi.ImageSpec{Image: probeImage}, Readonly: true}, "read", "/other/hello"); got != "hello from the image\n" {
		t.Errorf("the mounted image's file is %q", got)
	}
	if got := mounted(&runtimeapi.Mount{ContainerPath: "/other", Image: &runtimeapi.ImageSpec{Image: probeImage}, ImageSubPath: "etc", Readonly: true}, "read", "/other/group"); !strings.Contains(got, "friends") {
		t.Errorf("the mounted image's folder shows %q", got)
	}
	for path, why := range map[string]string{"missing": "file does not exist", "hello": "only directory subpath is supported"} {
		config := p.containerConfig("pause")
		config.Mounts = append(config.Mounts, &runtimeapi.Mount{ContainerPath: "/other", Image: &runtimeapi.ImageSpec{Image: probeImage}, ImageSubPath: path, Readonly: true})
		_, err := n.CreateContainer(context.Background(), &runtimeapi.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config})
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("a container with the image's %q is made: %v", path, err)
		}
	}
	// /dev/shm is the pod's: what one container writes another one reads.
	p.output(p.containerConfig("write", "/dev/shm/note", "shared"))
	if got := p.output(p.containerConfig("read", "/dev/shm/note")); got != "shared" {
		t.Errorf("shared memory holds %q", got)
	}
}

func TestUserNamespace(t *testing.T) {
	n := newNode(t)
	p := n.runPod(func(config *runtimeapi.PodSandboxConfig) {
		mapping := []*runtimeapi.IDMapping{{HostId: 300000, ContainerId: 0, Length: 65536}}
		config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: mapping, Gids: mapping}
	})
	got := p.output(p.containerConfig("read", "/proc/self/uid_map"))
	if fields := strings.Fields(got); len(fields) != 3 || fields[1] != "300000" {
		t.Errorf("the mapping is %q", got)
	}
	if got := p.output(p.containerConfig("write", "/tmp/file", "x")); got != "" {
		t.Errorf("write to the root file system: %q", got)
	}
}
