package cgroups

import (
	"fmt"
	"os"
	"path/filepath"
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
			if got := PodLimits(tc.pod); got != tc.want {
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
	t.Cleanup(func() {
		if err := tree.RemoveAll(); err != nil {
			t.Error(err)
		}
		for _, m := range tree.mounts {
			os.Remove(filepath.Join(m, name))
		}
	})
	if err := tree.Setup(list("1", "1Gi")); err != nil {
		t.Fatal(err)
	}
	p := pod("y", corev1.ResourceRequirements{Requests: list("250m", "32Mi"), Limits: list("500m", "64Mi")})
	path, err := tree.EnsurePod(p)
	if err != nil {
		t.Fatal(err)
	}
	if want := name + "/kubepods/burstable/poduid-y"; path != want {
		t.Errorf("path = %s, want %s", path, want)
	}
	if _, err := tree.PodUsage(p); err != nil {
		t.Error(err)
	}
	uids, err := tree.PodUIDs()
	if err != nil || len(uids) != 1 || uids[0] != p.UID {
		t.Errorf("pods = %v, %v", uids, err)
	}
	if err := tree.RemovePod(p.UID); err != nil {
		t.Fatal(err)
	}
	if uids, _ = tree.PodUIDs(); len(uids) != 0 {
		t.Errorf("pods after removal = %v", uids)
	}
}
