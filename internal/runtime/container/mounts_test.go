package container

import (
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
)

func TestSharedOptionsOfCgroupsAreKept(t *testing.T) {
	for _, tc := range []struct {
		name, mounts string
		want         []string
	}{
		{"as systemd mounts them", "30 1 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n", []string{"nsdelegate", "memory_recursiveprot"}},
		{"none were given", "30 1 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 none rw\n", nil},
		{"beside version 1", "30 1 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mounts, err := mountinfo.GetMountsFromReader(strings.NewReader(tc.mounts), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := cgroupOptions(mounts); !slices.Equal(got, tc.want) {
				t.Errorf("%v are kept, not %v", got, tc.want)
			}
		})
	}
}
