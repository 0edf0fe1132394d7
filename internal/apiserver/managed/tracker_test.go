package managed_test

import (
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
	_ "clipper.dev/clipper/internal/api/all"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/apiserver/managed"
)

func newTracker(t testing.TB) *managed.Tracker {
	t.Helper()
	tracker, err := managed.New(api.Registered(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return tracker
}

func kilobyte() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "default", Labels: map[string]string{"app": "web"}},
		Data:       map[string]string{"a": strings.Repeat("x", 300), "b": strings.Repeat("x", 300), "c": strings.Repeat("x", 300), "d": "1"},
	}
}

func BenchmarkCreateConfigMap(b *testing.B) {
	tracker := newTracker(b)
	w := apiserver.Tracked{Resource: core.ConfigMaps, Version: "v1"}
	o := kilobyte()
	b.ReportAllocs()
	for b.Loop() {
		o.ManagedFields = nil
		tracker.Update(w, nil, o, "bench")
	}
	b.Log(string(o.ManagedFields[0].FieldsV1.Raw))
}

func BenchmarkUpdateConfigMap(b *testing.B) {
	tracker := newTracker(b)
	w := apiserver.Tracked{Resource: core.ConfigMaps, Version: "v1"}
	o := kilobyte()
	tracker.Update(w, nil, o, "bench")
	o.UID = "1"
	next := o.DeepCopy()
	next.Data["d"] = "2"
	b.ReportAllocs()
	for b.Loop() {
		next.ManagedFields = o.ManagedFields
		tracker.Update(w, o, next, "bench")
	}
}

func examplePod() *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: "c", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: "TCP"}},
				Env:          []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}},
				VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}},
			}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
	core.Pods.Default(p)
	return p
}

func BenchmarkCreatePod(b *testing.B) {
	tracker := newTracker(b)
	w := apiserver.Tracked{Resource: core.Pods, Version: "v1"}
	o := examplePod()
	b.ReportAllocs()
	for b.Loop() {
		o.ManagedFields = nil
		tracker.Update(w, nil, o, "bench")
	}
}

func BenchmarkUpdatePodStatus(b *testing.B) {
	tracker := newTracker(b)
	o := examplePod()
	tracker.Update(apiserver.Tracked{Resource: core.Pods, Version: "v1"}, nil, o, "bench")
	o.UID = "1"
	w := apiserver.Tracked{Resource: core.Pods, Version: "v1", Subresource: "status"}
	next := o.DeepCopy()
	next.Status.Phase, next.Status.PodIP = corev1.PodRunning, "10.0.0.1"
	next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	tracker.Update(w, o, next, "kubelet")
	o, next = next, next.DeepCopy()
	next.Status.Phase = corev1.PodSucceeded
	b.ReportAllocs()
	for b.Loop() {
		next.ManagedFields = o.ManagedFields
		tracker.Update(w, o, next, "kubelet")
	}
}

func TestATrackerThatHasLetGoTracksAsBefore(t *testing.T) {
	w := apiserver.Tracked{Resource: core.ConfigMaps, Version: "v1"}
	write := func(between func(*managed.Tracker)) string {
		tracker := newTracker(t)
		o := kilobyte()
		tracker.Update(w, nil, o, "one")
		o.UID = "1"
		between(tracker)
		next := o.DeepCopy()
		next.Data["d"] = "2"
		tracker.Update(w, o, next, "two")
		var all strings.Builder
		for _, entry := range next.ManagedFields {
			all.WriteString(entry.Manager + string(entry.FieldsV1.Raw))
		}
		return all.String()
	}
	if kept, let := write(func(*managed.Tracker) {}), write((*managed.Tracker).Release); kept != let || kept == "" {
		t.Errorf("got %s, want %s", let, kept)
	}
}
