package server

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// TestAWatcherThatDoesNotReadDelaysNoOtherOfItsConnection has watchers that share a connection, some of which begin to read when more has
// been sent than their windows hold.
func TestAWatcherThatDoesNotReadDelaysNoOtherOfItsConnection(t *testing.T) {
	const reading, waiting, changes, size = 8, 4, 600, 10 << 10 // a client of Go's net/http has 4 MB of window for each
	maps := api.client(t).CoreV1().ConfigMaps("default")
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "watched-slowly"}, Data: map[string]string{"text": strings.Repeat("x", size)}}
	m, err := maps.Create(t.Context(), m, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	options := metav1.ListOptions{FieldSelector: "metadata.name=" + m.Name, ResourceVersion: m.ResourceVersion}
	var readers []watch.Interface
	for range reading {
		w, err := maps.Watch(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		readers = append(readers, w)
	}
	var waiters []io.ReadCloser
	for range waiting {
		w, err := api.client(t).CoreV1().RESTClient().Get().Namespace("default").Resource("configmaps").
			Param("watch", "true").Param("fieldSelector", options.FieldSelector).Param("resourceVersion", options.ResourceVersion).
			SetHeader("Accept", "application/json").Stream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		waiters = append(waiters, w)
	}
	for i := range changes {
		m.Data["n"] = fmt.Sprint(i)
		if m, err = maps.Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, w := range readers {
			e := <-w.ResultChan()
			if got, ok := e.Object.(*corev1.ConfigMap); !ok || got.ResourceVersion != m.ResourceVersion {
				t.Fatalf("change %d: a watcher got %s %v", i, e.Type, e.Object)
			}
		}
	}
	for _, w := range waiters {
		events := json.NewDecoder(w)
		for i := range changes {
			var e struct{ Object corev1.ConfigMap }
			if err := events.Decode(&e); err != nil {
				t.Fatal(err)
			}
			if e.Object.Data["n"] != fmt.Sprint(i) {
				t.Fatalf("a watcher that read late got change %s for %d", e.Object.Data["n"], i)
			}
		}
	}
	if err := maps.Delete(t.Context(), m.Name, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}
