package cdi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestAContainerGetsWhatItsDevicesAreDescribedWith(t *testing.T) {
	etc, run := t.TempDir(), t.TempDir()
	write := func(dir, name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(etc, "a.yaml", "cdiVersion: 0.3.0\nkind: v.com/gpu\ncontainerEdits: {env: [COMMON=1]}\ndevices:\n- name: zero\n  containerEdits:\n    deviceNodes: [{path: /dev/gpu0, hostPath: /dev/null}]\n    mounts: [{hostPath: /lib, containerPath: /gpu, options: [ro, bind]}]\n- name: one\n  containerEdits: {env: [WHO=old]}\n")
	write(run, "b.json", `{"cdiVersion":"0.3.0","kind":"v.com/gpu","devices":[{"name":"one","containerEdits":{"env":["WHO=new"]}}]}`)
	write(run, "c.json", `{"kind":"v.com/x","devices":[{"name":"twice"}]}`)
	write(run, "d.json", `{"kind":"v.com/x","devices":[{"name":"twice"}]}`)
	write(run, "junk.json", `{`)
	fresh := func() *specs.Spec {
		return &specs.Spec{Process: &specs.Process{Env: []string{"WHO=image"}}, Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
	}
	spec := fresh()
	if err := Inject(spec, []string{"v.com/gpu=zero", "v.com/gpu=one"}, []string{etc, run}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"WHO=new", "COMMON=1"}; !slices.Equal(spec.Process.Env, want) {
		t.Errorf("variables are %v, want %v", spec.Process.Env, want)
	}
	if len(spec.Linux.Devices) != 1 || spec.Linux.Devices[0].Path != "/dev/gpu0" || spec.Linux.Devices[0].Minor != 3 || len(spec.Linux.Resources.Devices) != 1 {
		t.Errorf("devices are %+v, rules %+v", spec.Linux.Devices, spec.Linux.Resources.Devices)
	}
	if len(spec.Mounts) != 1 || spec.Mounts[0].Destination != "/gpu" || spec.Mounts[0].Type != "bind" {
		t.Errorf("mounts are %+v", spec.Mounts)
	}
	for _, name := range []string{"v.com/gpu=none", "v.com/x=twice"} {
		if err := Inject(fresh(), []string{name}, []string{etc, run}); err == nil || !strings.HasSuffix(err.Error(), "unresolvable CDI devices "+name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDevicesComeFromTheListAndFromAnnotations(t *testing.T) {
	annotations := map[string]string{"cdi.k8s.io/b": "v.com/gpu=one,v.com/gpu=zero", "cdi.k8s.io/a": "v.com/x=y:1", "other": "v.com/gpu=three"}
	got, err := Names([]string{"v.com/gpu=zero", "v.com/gpu=zero"}, annotations)
	if want := []string{"v.com/gpu=zero", "v.com/x=y:1", "v.com/gpu=one"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, name := range []string{"", "gpu0", "v.com/gpu", "v.com/gpu=", "v.com/gpu=-x", "1v/gpu=x", "v/g/h=x", "v.com/gpu=x y"} {
		_, err := Names(nil, map[string]string{"cdi.k8s.io/a": name})
		if err == nil || !strings.Contains(err.Error(), "invalid CDI device name") {
			t.Errorf("%q: got %v", name, err)
		}
	}
}
