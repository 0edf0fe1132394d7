package follow_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/client/follow"
)

func TestCompleteWaitsForAllThatWasThere(t *testing.T) {
	var objects []client.Object
	for i := range 100 {
		objects = append(objects, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", i)}})
	}
	c := clienttest.New(objects...)
	view, err := c.View(t.Context(), client.Services.GVR, client.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	names := map[string]bool{}
	f := follow.New(view, func(change client.Change) {
		mu.Lock()
		defer mu.Unlock()
		if change.New != nil {
			names[change.New.Name()] = true
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	defer running.Wait()
	defer stop()
	// One that goes meanwhile must not be waited for.
	if err := client.Services.Delete(t.Context(), c, "default", "s50", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := follow.Complete(ctx, f); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(names) < 99 {
		t.Errorf("complete with %d of 99 objects", len(names))
	}
}

func TestCompleteEndsWithItsContext(t *testing.T) {
	c := clienttest.New(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}})
	view, err := c.View(t.Context(), client.Services.GVR, client.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := follow.Complete(ctx, follow.New(view, func(client.Change) {})); err == nil {
		t.Error("complete without having run")
	}
}
