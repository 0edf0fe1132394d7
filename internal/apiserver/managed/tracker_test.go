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
