package runtime

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// byLibcontainer makes the keeper start a container by libcontainer instead of the entry, which has no idea of homes.
func byLibcontainer(config *runtimeapi.ContainerConfig) {
	config.Envs = append(config.Envs, &runtimeapi.KeyValue{Key: "HOME"})
}

var (
	longID   = regexp.MustCompile(`[0-9a-f]{64}`)
	peerID   = regexp.MustCompile(`(shared|master|propagate_from):[0-9]+`)
	fileMade = regexp.MustCompile(`pts/[0-9]+`)
)

// plain takes from a description what differs from one container to the next.
func plain(description string) []string {
	description = longID.ReplaceAllString(description, "ID")
	description = peerID.ReplaceAllString(description, "$1")
	return strings.Split(fileMade.ReplaceAllString(description, "pts"), "\n")
}

// TestEntryMakesWhatLibcontainerMakes starts each container twice, by the entry and by libcontainer, and compares what the container's process
// finds: its privileges, limits, mounts, devices, files and environment.
func TestEntryMakesWhatLibcontainerMakes(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	type context = runtimeapi.LinuxContainerSecurityContext
	as := func(change func(*context)) func(*runtimeapi.ContainerConfig) {
		return func(config *runtimeapi.ContainerConfig) { change(config.Linux.SecurityContext) }
	}
	mount := func(mounts ...*runtimeapi.Mount) func(*runtimeapi.ContainerConfig) {
		return func(config *runtimeapi.ContainerConfig) { config.Mounts = mounts }
	}
	hostNetwork := func(config *runtimeapi.PodSandboxConfig) {
		config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
		config.Linux.SecurityContext.NamespaceOptions.Ipc = runtimeapi.NamespaceMode_NODE
	}
	for _, test := range []struct {
		name   string
		pod    func(*runtimeapi.PodSandboxConfig)
		change func(*runtimeapi.ContainerConfig)
	}{
		{"default", nil, func(*runtimeapi.ContainerConfig) {}},
		{"user", nil, as(func(c *context) { c.RunAsUser = &runtimeapi.Int64Value{Value: 1000} })},
		{"user_and_no_new_privileges", nil, as(func(c *context) {
			c.RunAsUser, c.RunAsGroup, c.NoNewPrivs = &runtimeapi.Int64Value{Value: 1000}, &runtimeapi.Int64Value{Value: 7}, true
			c.SupplementalGroups = []int64{3000, 4000}
		})},
		{"privileged", nil, as(func(c *context) { c.Privileged = true })},
		{"no_filter", nil, as(func(c *context) { c.Seccomp.ProfileType = runtimeapi.SecurityProfile_Unconfined })},
		{"capabilities", nil, as(func(c *context) {
			c.Capabilities = &runtimeapi.Capability{
				DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_ADMIN", "SYS_TIME"}, AddAmbientCapabilities: []string{"NET_ADMIN"},
			}
			c.RunAsUser = &runtimeapi.Int64Value{Value: 1000}
		})},
		{"read_only_root", nil, as(func(c *context) { c.ReadonlyRootfs = true })},
		{"nothing_hidden", nil, as(func(c *context) { c.MaskedPaths, c.ReadonlyPaths = nil, nil })},
		{"many_hidden", nil, as(func(c *context) {
			c.MaskedPaths = []string{"/proc/acpi", "/proc/keys", "/proc/scsi", "/sys/firmware", "/sys/firmware/", "/proc/timer_list", "/no/such"}
			c.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/sys", "/no/such"}
		})},
		{"working_directory", nil, func(config *runtimeapi.ContainerConfig) { config.WorkingDir = "/made/on/the/way" }},
		{"node_network", hostNetwork, func(*runtimeapi.ContainerConfig) {}},
		{"mounts", nil, mount(
			&runtimeapi.Mount{HostPath: dir, ContainerPath: "/data"},
			&runtimeapi.Mount{HostPath: dir, ContainerPath: "/data/deeper/read-only", Readonly: true},
			&runtimeapi.Mount{HostPath: filepath.Join(dir, "file"), ContainerPath: "/etc/a-file", Readonly: true},
			&runtimeapi.Mount{HostPath: filepath.Join(dir, "file"), ContainerPath: "/dev/termination-log"},
		)},
		{"mount_that_follows_the_node", nil, mount(
			&runtimeapi.Mount{HostPath: dir, ContainerPath: "/data", Propagation: runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER})},
		{"mount_through_a_link", nil, mount(&runtimeapi.Mount{HostPath: dir, ContainerPath: "/var/run/data"})},
		{"limits", nil, func(config *runtimeapi.ContainerConfig) {
			config.Linux.Resources = &runtimeapi.LinuxContainerResources{CpuShares: 100, CpuQuota: 50000, CpuPeriod: 100000, MemoryLimitInBytes: 128 << 20}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var change []func(*runtimeapi.PodSandboxConfig)
			if test.pod != nil {
				change = append(change, test.pod)
			}
			p := n.runPod(change...)
			described := func(config *runtimeapi.ContainerConfig) []string {
				test.change(config)
				return plain(p.output(config))
			}
			own := described(p.containerConfig("self"))
			config := p.containerConfig("self")
			byLibcontainer(config)
			want := described(config)
			compareLines(t, own, want)
		})
	}
	log, err := os.ReadFile(filepath.Join(n.config.StateDir, "keeper", "keeper.log"))
	if err != nil || strings.Contains(string(log), "leaving a container to libcontainer") {
		t.Errorf("the entry gave up, says the keeper's log: %v %s", err, log)
	}
}

func compareLines(t *testing.T, got, want []string) {
	t.Helper()
	if len(want) < 50 {
		t.Fatalf("hardly anything was described: %q", want)
	}
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("line %d: the entry makes %q, libcontainer %q", i, g, w)
		}
	}
}
