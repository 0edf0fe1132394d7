package container

import (
	"slices"
	"testing"
)

func TestSharedOptionsOfCgroupsAreKept(t *testing.T) {
	for _, tc := range []struct {
		name, mounts string
		want         []string
	}{
		{"as systemd mounts them", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate,memory_recursiveprot 0 0\n", []string{"nsdelegate", "memory_recursiveprot"}},
		{"none were given", "none /sys/fs/cgroup cgroup2 rw,relatime 0 0\n", nil},
		{"beside version 1", "tmpfs /sys/fs/cgroup tmpfs ro 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := cgroupOptions(tc.mounts); !slices.Equal(got, tc.want) {
				t.Errorf("%v are kept, not %v", got, tc.want)
			}
		})
	}
}
