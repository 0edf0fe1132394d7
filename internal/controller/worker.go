package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store"
)

// worker runs one controller.
type worker struct {
	Controller
	log   *slog.Logger
	queue *queue

	mu      sync.Mutex
	written map[Key]int64 // the last revision that a key's reconciliation wrote, while the inputs may not show it yet
}

func (w *worker) run(ctx context.Context, metrics *Metrics) error {
	workers := w.Workers
	if workers <= 0 {
		workers = defaultWorkers
	}
	g, ctx := errgroup.WithContext(ctx)
	w.queue = newQueue(workers, func(key Key) { w.handle(ctx, key) }, metrics.of(w.Name))
	defer metrics.follow(w.queue, w.Name)()
	defer w.queue.stop()
	for _, in := range w.Inputs {
		if err := in.View.WaitFor(ctx, 0); err != nil {
			return fmt.Errorf("%s: wait for the input to be complete: %w", w.Name, err)
		}
	}
	for _, in := range w.Inputs {
		if in.Keys == nil {
			continue
		}
		g.Go(func() error {
			err := in.View.Subscribe(ctx, func(c client.Change) {
				for _, key := range in.Keys(c) {
					w.queue.add(key)
				}
			})
			if ctx.Err() == nil {
				return fmt.Errorf("%s: an input ended: %w", w.Name, err)
			}
			return ctx.Err()
		})
	}
	beside := func(fn func() error) {
		g.Go(func() error {
			if err := fn(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", w.Name, err)
			}
			return nil
		})
	}
	if w.Start != nil {
		beside(func() error { return w.Start(ctx) })
	}
	if w.Source != nil {
		beside(func() error { return w.Source(ctx, w.queue.add) })
	}
	w.queue.start()
	g.Go(func() error {
		<-ctx.Done()
		return ctx.Err()
	})
	return g.Wait()
}

// handle reconciles one key and decides when it comes again.
func (w *worker) handle(ctx context.Context, key Key) {
	if err := w.catchUp(ctx, key); err != nil {
		return // the context has ended
	}
	again, err := w.reconcile(client.WithNotes(ctx, func(revision int64) { w.note(key, revision) }), key)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		delay := w.queue.retry(key)
		level := slog.LevelWarn
		if apierrors.IsConflict(err) || errors.Is(err, store.ErrFenced) {
			level = slog.LevelDebug // somebody else was faster: nothing is wrong
		}
		w.log.Log(ctx, level, "reconcile", "key", key.String(), "err", err, "retry", delay)
		return
	}
	w.queue.forget(key)
	if again.After > 0 {
		w.queue.addAfter(key, again.After)
	}
}

// reconcile calls Reconcile; a panic in it is an error of that key alone.
func (w *worker) reconcile(ctx context.Context, key Key) (again Again, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return w.Reconcile(ctx, key)
}

func (w *worker) note(key Key, revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written[key] = max(w.written[key], revision)
}

// catchUp waits until the inputs show what this key's last reconciliation wrote.
func (w *worker) catchUp(ctx context.Context, key Key) error {
	w.mu.Lock()
	revision := w.written[key]
	delete(w.written, key)
	w.mu.Unlock()
	if revision == 0 {
		return nil
	}
	for _, in := range w.Inputs {
		if err := in.View.WaitFor(ctx, revision); err != nil {
			return err
		}
	}
	return nil
}

// Sleep waits for a duration; it returns the context's error if that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
