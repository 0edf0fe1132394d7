package kubelet

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestAPodBeyondItsLimitIsEvictedAndAwaited(t *testing.T) {
	r := newRig(t)
	limit := resource.MustParse("1Ki")
	r.create(testPod("hog", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	}))
	r.create(testPod("innocent", nil))
	r.eventually("hog", "running", running)
	r.eventually("innocent", "running", running)
	file := filepath.Join(r.k.volumes.PodDir("uid-hog"), "volumes/kubernetes.io~empty-dir/v/file")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEvictor(r.k)
	evicted := e.look(t.Context())
	if len(evicted) != 1 || evicted[0] != "uid-hog" {
		t.Fatalf("evicted %v, want the pod beyond its limit", evicted)
	}
	e.awaitCleanup(t.Context(), evicted)
	if !r.k.pods.isCleaned("uid-hog") {
		t.Error("the next look comes before the pod is gone")
	}
	pod := r.eventually("hog", "evicted", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if want := `Usage of EmptyDir volume "v" exceeds the limit "1Ki". `; pod.Status.Reason != "Evicted" || pod.Status.Message != want {
		t.Errorf("%s: %q, want %q", pod.Status.Reason, pod.Status.Message, want)
	}
}

func TestDeadContainersOfFinishedPodsMakeRoom(t *testing.T) {
	r := newRig(t)
	r.create(testPod("job", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
	r.eventually("job", "running", running)
	ids, _ := r.rt.Containers("app")
	r.rt.Exit(ids[0], 0)
	before := r.eventually("job", "finished", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	e := newEvictor(r.k)
	r.wait("the container is removed", func() bool {
		if err := e.removeFinished(t.Context()); err != nil {
			t.Fatal(err)
		}
		ids, _ := r.rt.Containers("app")
		return len(ids) == 0
	})
	r.wait("the kubelet knows", func() bool { return len(r.k.pods.observed("uid-job").Containers) == 0 })
	after := r.eventually("job", "finished", func(*corev1.Pod) bool { return true })
	if !apiequality.Semantic.DeepEqual(before.Status.ContainerStatuses, after.Status.ContainerStatuses) {
		t.Errorf("the container's status was %+v, is %+v", before.Status.ContainerStatuses, after.Status.ContainerStatuses)
	}
}
