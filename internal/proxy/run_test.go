package proxy

import (
	"context"
	"errors"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
)

// recorder is a backend that tells the test of each Sync, and fails when told to.
type recorder struct {
	mu    sync.Mutex
	fail  bool
	syncs chan []Change
}

func (r *recorder) Sync(ctx context.Context, changes []Change) error {
	r.mu.Lock()
	fail := r.fail
	r.fail = false
	r.mu.Unlock()
	select {
	case r.syncs <- changes:
	case <-ctx.Done():
	}
	if fail {
		return errors.New("refused")
	}
	return nil
}

func (r *recorder) Close() error { return nil }

func TestRunFollowsTheCluster(t *testing.T) {
	web := testService("web", nil)
	c := clienttest.New(
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here"}}, web, testSlice("web", "10.0.0.1"),
		testService("other", nil))
	backend := &recorder{syncs: make(chan []Change)}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Run(ctx, c, Config{NodeName: "here", Backend: backend}) }()

	if first := <-backend.syncs; len(first) != 2 || len(first[1].New.Internal.Endpoints) != 1 {
		t.Errorf("the first sync brought %+v, want both services with their endpoints", first)
	}
	backend.mu.Lock()
	backend.fail = true
	backend.mu.Unlock()
	slice := testSlice("other", "10.0.0.2")
	if _, err := c.Create(ctx, discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if changes := untilChange(backend); len(changes) != 1 || changes[0].Key().Service.Name != "other" {
		t.Errorf("a new slice brought %+v", changes)
	}
	if retried := <-backend.syncs; len(retried) != 0 {
		t.Errorf("the retry brought %+v", retried)
	}
	if err := client.Services.Delete(ctx, c, "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if changes := untilChange(backend); len(changes) != 1 || changes[0].New != nil {
		t.Errorf("a deletion brought %+v", changes)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func untilChange(r *recorder) []Change {
	for {
		if changes := <-r.syncs; len(changes) > 0 {
			return changes
		}
	}
}
