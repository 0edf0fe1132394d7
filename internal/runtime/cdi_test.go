package runtime

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/cdi"
)

// TestCDI starts containers with devices by the Container Device Interface: a node, a mount, variables and a hook reach the container.
func TestCDI(t *testing.T) {
	dir := t.TempDir()
	was := cdi.Dirs
	cdi.Dirs = []string{dir}
	t.Cleanup(func() { cdi.Dirs = was })
	n := newNode(t)
	shared := t.TempDir()
	if err := os.WriteFile(filepath.Join(shared, "note"), []byte("by a mount"), 0o644); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(shared, "hooked")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "vendor.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"cdiVersion": "0.6.0", "kind": "vendor.test/thing",
		"containerEdits": {"env": ["ALL=things"]},
		"devices": [{"name": "one", "containerEdits": {
			"env": ["THING=one"],
			"deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/null"}],
			"mounts": [{"hostPath": "` + shared + `", "containerPath": "/shared", "options": ["ro", "bind"]}],
			"hooks": [{"hookName": "createRuntime", "path": "/bin/touch", "args": ["touch", "` + mark + `"]}]
		}}]}`)
	pod := n.runPod()
	device := func(name string) *runtimeapi.ContainerConfig {
		config := pod.containerConfig("env")
		config.CDIDevices = []*runtimeapi.CDIDevice{{Name: name}}
		return config
	}
	t.Run("variables_of_the_device_and_of_its_kind_are_there_and_its_hook_has_run", func(t *testing.T) {
		out := pod.output(device("vendor.test/thing=one"))
		for _, want := range []string{"THING=one", "ALL=things"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s is missing in\n%s", want, out)
			}
		}
		if _, err := os.Stat(mark); err != nil {
			t.Errorf("the hook has not run: %v", err)
		}
	})
	t.Run("an_annotation_asks_for_it_too", func(t *testing.T) {
		config := pod.containerConfig("env")
		config.Annotations = map[string]string{"cdi.k8s.io/vendor_thing": "vendor.test/thing=one"}
		if out := pod.output(config); !strings.Contains(out, "THING=one") {
			t.Errorf("the variable is missing in\n%s", out)
		}
	})
	t.Run("its_files_and_its_node_are_there", func(t *testing.T) {
		for path, want := range map[string]string{"/shared/note": "by a mount", "/dev/thing": ""} {
			config := device("vendor.test/thing=one")
			config.Args = []string{"read", path}
			id := pod.start(config)
			if status := pod.waitExit(id); status.ExitCode != 0 || !strings.Contains(pod.log(id), want) {
				t.Errorf("reading %s: exit code %d, %q", path, status.ExitCode, pod.log(id))
			}
		}
	})
	t.Run("one_that_no_file_knows_is_refused", func(t *testing.T) {
		_, err := n.CreateContainer(context.Background(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod.id, SandboxConfig: pod.config, Config: device("vendor.test/thing=two")})
		if err == nil || !strings.Contains(err.Error(), "CDI device injection failed: unresolvable CDI devices vendor.test/thing=two") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("a_file_that_comes_later_counts", func(t *testing.T) {
		write(`{"cdiVersion": "0.6.0", "kind": "vendor.test/thing", "devices": [{"name": "two", "containerEdits": {"env": ["THING=two"]}}]}`)
		if out := pod.output(device("vendor.test/thing=two")); !strings.Contains(out, "THING=two") {
			t.Errorf("the variable is missing in\n%s", out)
		}
	})
}
