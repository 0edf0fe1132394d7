package cgroups

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func pod(uid string, res ...corev1.ResourceRequirements) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: types.UID("uid-" + uid)}}
	for i, r := range res {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprint("c", i), Resources: r})
	}
	return p
}

func list(cpu, memory string) corev1.ResourceList {
	l := corev1.ResourceList{}
	if cpu != "" {
		l[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		l[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return l
}

func TestPodLimits(t *testing.T) {
	full := corev1.ResourceRequirements{Requests: list("500m", "64Mi"), Limits: list("500m", "64Mi")}
	for _, tc := range []struct {
		name string
		pod  *corev1.Pod
		want Limits
	}{
		{"nothing requested is the least weight", pod("", corev1.ResourceRequirements{}), Limits{CPUShares: 2}},
		{"limits of all containers add up", pod("", full, full), Limits{CPUShares: 1024, CPUQuota: 100000, Memory: 128 << 20}},
		{"one container without a limit leaves the pod without", pod("", full, corev1.ResourceRequirements{}), Limits{CPUShares: 512}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := PodLimits(tc.pod, 0); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestTreeIsMadeUsedAndRemoved(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("control groups need root")
	}
	name := fmt.Sprintf("/clipper-test-%d", os.Getpid())
	tree, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	tree.PodPIDs = 100
	p := pod("y", corev1.ResourceRequirements{Requests: list("250m", "32Mi"), Limits: list("500m", "64Mi")})
	t.Cleanup(func() {
		if err := tree.Leave([]types.UID{p.UID}); err != nil {
			t.Error(err)
		}
	})
	if err := tree.Setup(list("1", "1Gi"), list("1", "1Gi")); err != nil {
		t.Fatal(err)
	}
	path, err := tree.EnsurePod(p)
	if err != nil {
		t.Fatal(err)
	}
	if want := name + "/kubepods/burstable/poduid-y"; path != want {
		t.Errorf("path = %s, want %s", path, want)
	}
	expectBounds(t, tree, path, bounds{shares: "256", weight: "10", quota: "50000", memory: "67108864", pids: "100"})
	expectBounds(t, tree, name+"/kubepods", bounds{shares: "1024", weight: "39", quota: "-1", memory: "1073741824"})
	if err := tree.LoosenPod(p); err != nil {
		t.Error(err)
	}
	expectBounds(t, tree, path, bounds{shares: "256", weight: "10", quota: "-1", pids: "100"})
	if err := tree.UpdatePod(p); err != nil {
		t.Error(err)
	}
	expectBounds(t, tree, path, bounds{shares: "256", weight: "10", quota: "50000", memory: "67108864", pids: "100"})
	if err := tree.UpdateQOS(2000); err != nil {
		t.Error(err)
	}
	expectBounds(t, tree, name+"/kubepods/burstable", bounds{shares: "2048", weight: "79", quota: "-1"})
	if _, err := tree.PodUsage(p); err != nil {
		t.Error(err)
	}
	node, err := tree.NodeUsage()
	if err != nil {
		t.Error(err)
	}
	if tree.TellsPressure() && node.CPUPressure.Some.Total == 0 {
		t.Errorf("nobody has ever waited for a processor: %+v", node)
	}
	if err := tree.RemovePod(p.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tree.of["cpu"], path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the removal the group is there: %v", err)
	}
}

func TestWhoLeavesTakesOnlyHisOwnPodsAlong(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("control groups need root")
	}
	name := fmt.Sprintf("/clipper-test-%d-shared", os.Getpid())
	tree, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	mine, others := pod("mine", corev1.ResourceRequirements{}), pod("others", corev1.ResourceRequirements{})
	t.Cleanup(func() {
		if err := tree.Leave([]types.UID{mine.UID, others.UID}); err != nil {
			t.Error(err)
		}
	})
	if err := tree.Setup(list("1", "1Gi"), nil); err != nil {
		t.Fatal(err)
	}
	there := map[*corev1.Pod]string{}
	for _, p := range []*corev1.Pod{mine, others} {
		path, err := tree.EnsurePod(p)
		if err != nil {
			t.Fatal(err)
		}
		there[p] = filepath.Join(tree.of["memory"], path)
	}
	if err := os.Mkdir(filepath.Join(there[mine], "container"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tree.Leave([]types.UID{mine.UID}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(there[mine]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group of the own pod is there: %v", err)
	}
	if _, err := os.Stat(there[others]); err != nil {
		t.Errorf("the group of another's pod is gone: %v", err)
	}
	if err := tree.Leave([]types.UID{others.UID}); err != nil {
		t.Fatal(err)
	}
	for _, mount := range tree.mounts {
		if _, err := os.Stat(filepath.Join(mount, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the root that nobody uses any more is there: %v", err)
		}
	}
}

// bounds are what files of a group say; an empty field isn't looked at, but no memory is no bound.
type bounds struct{ shares, weight, quota, memory, pids string }

func expectBounds(t *testing.T, tree *Tree, path string, want bounds) {
	t.Helper()
	files := map[string]string{}
	if tree.v2 {
		files["cpu/cpu.weight"], files["pids/pids.max"] = want.weight, want.pids
		files["cpu/cpu.max"] = strings.Replace(want.quota, "-1", "max", 1) + " 100000"
		files["memory/memory.max"] = cmp.Or(want.memory, "max")
	} else {
		files["cpu/cpu.shares"], files["pids/pids.max"], files["cpu/cpu.cfs_quota_us"] = want.shares, want.pids, want.quota
		files["memory/memory.limit_in_bytes"] = cmp.Or(want.memory, "9223372036854771712")
	}
	for file, value := range files {
		controller, name := filepath.Split(file)
		if value == "" {
			continue
		}
		got, err := os.ReadFile(filepath.Join(tree.of[filepath.Clean(controller)], path, name))
		if err != nil || strings.TrimSpace(string(got)) != value {
			t.Errorf("%s of %s is %q, not %q: %v", name, path, strings.TrimSpace(string(got)), value, err)
		}
	}
}
