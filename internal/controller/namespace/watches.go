package namespace

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// watches brings a namespace back as soon as something in it goes away. What is watched are the kinds that it
// was found to hold objects of.
type watches struct {
	mu      sync.Mutex
	ctx     context.Context // of the run; nil while there is none
	add     func(controller.Key)
	running map[controller.Key]map[schema.GroupVersionResource]context.CancelFunc
	early   []controller.Key // came before the run began
	done    sync.WaitGroup
}

func (w *watches) run(ctx context.Context, add func(controller.Key)) error {
	w.mu.Lock()
	w.ctx, w.add, w.running = ctx, add, map[controller.Key]map[schema.GroupVersionResource]context.CancelFunc{}
	early := w.early
	w.early = nil
	w.mu.Unlock()
	for _, key := range early {
		add(key)
	}
	<-ctx.Done()
	w.mu.Lock()
	w.ctx = nil
	w.mu.Unlock()
	w.done.Wait()
	return ctx.Err()
}

// forget ends a namespace's watches.
func (w *watches) forget(key controller.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, cancel := range w.running[key] {
		cancel()
	}
	delete(w.running, key)
}

// follow adds to a namespace's watches those that aren't there yet, and reports whether it added any.
func (w *watches) follow(key controller.Key, views map[schema.GroupVersionResource]client.View) (added bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil {
		w.early = append(w.early, key)
		return false
	}
	for gvr, view := range views {
		if w.running[key] == nil {
			w.running[key] = map[schema.GroupVersionResource]context.CancelFunc{}
		}
		if w.running[key][gvr] != nil {
			continue
		}
		added = true
		ctx, cancel := context.WithCancel(w.ctx)
		w.running[key][gvr] = cancel
		add := w.add
		w.done.Go(func() {
			_ = view.Subscribe(ctx, func(c client.Change) {
				if c.New == nil {
					add(key)
				}
			})
		})
	}
	return added
}
