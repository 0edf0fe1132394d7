package cluster

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func TestKernel(t *testing.T) {
	const v1 = "25 1 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n26 1 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
		"27 1 0:24 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n28 1 0:25 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
	const devices = "29 1 0:26 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"
	whole := func() kernel {
		files := fstest.MapFS{"proc/self/mountinfo": {Data: []byte(v1 + devices)}}
		for _, ns := range []string{"net", "mnt", "pid", "ipc", "uts", "cgroup"} {
			files["proc/self/ns/"+ns] = &fstest.MapFile{}
		}
		return kernel{files: files, fileSystem: func(string) error { return nil }, packets: func() error { return nil }}
	}
	for _, test := range []struct {
		name string
		lose func(*kernel)
		want string
	}{
		{"with_everything_passes", func(*kernel) {}, ""},
		{"with_cgroup_v2_needs_no_hierarchies", func(k *kernel) {
			delete(k.files.(fstest.MapFS), "proc/self/mountinfo")
			k.files.(fstest.MapFS)["sys/fs/cgroup/cgroup.controllers"] = &fstest.MapFile{}
		}, ""},
		{"without_overlay_is_refused", func(k *kernel) { k.fileSystem = func(string) error { return unix.ENODEV } }, `install its module "overlay"`},
		{"that_is_old_is_refused", func(k *kernel) { k.fileSystem = func(string) error { return unix.ENOSYS } }, "Linux 5.6"},
		{"without_nftables_is_refused", func(k *kernel) { k.packets = func() error { return unix.EPROTONOSUPPORT } }, `install its module "nf_tables"`},
		{"without_a_namespace_is_refused", func(k *kernel) { delete(k.files.(fstest.MapFS), "proc/self/ns/pid") }, "no pid namespaces"},
		{"without_a_controller_is_refused", func(k *kernel) {
			k.files.(fstest.MapFS)["proc/self/mountinfo"] = &fstest.MapFile{Data: []byte(v1)}
		}, `controller "devices" is not mounted`},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := whole()
			test.lose(&k)
			err := k.check()
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("the error is %v", err)
			case err != nil && strings.Contains(err.Error(), "\n"):
				t.Errorf("more than one line: %v", err)
			}
		})
	}
	t.Run("that_runs_these_tests_has_it_all", func(t *testing.T) {
		if err := thisKernel().check(); err != nil && !errors.Is(err, unix.EPERM) {
			t.Error(err)
		}
	})
}
