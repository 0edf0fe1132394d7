// Package follow keeps a state of its own in step with views, and knows when that state is complete.
//
//	f := follow.New(view, func(c client.Change) { … })
//	g.Go(func() error { return f.Run(ctx) })
//	err := follow.Complete(ctx, f)
//
// View.Subscribe alone doesn't tell when it has delivered the objects that were there at first; who must not
// act on half of them (a proxy that would take away the rest) waits for Complete.
package follow

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
)

// Follower delivers a view's changes to a function.
type Follower struct {
	view client.View
	fn   func(client.Change)

	mu   sync.Mutex
	seen map[types.NamespacedName]struct{} // nil once complete
	// delivered is closed and replaced with each delivery, until complete.
	delivered chan struct{}
}

// New returns a Follower that calls fn, one call at a time, for every object and every change.
func New(view client.View, fn func(client.Change)) *Follower {
	return &Follower{view: view, fn: fn, seen: make(map[types.NamespacedName]struct{}), delivered: make(chan struct{})}
}

// Run delivers until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	return f.view.Subscribe(ctx, func(c client.Change) {
		f.fn(c)
		f.note(c)
	})
}

func (f *Follower) note(c client.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		return
	}
	if c.New != nil {
		f.seen[types.NamespacedName{Namespace: c.New.Namespace(), Name: c.New.Name()}] = struct{}{}
	}
	close(f.delivered)
	f.delivered = make(chan struct{})
}

// Complete waits until every follower has delivered all that its view held when it was first complete, unless that is gone again.
func Complete(ctx context.Context, followers ...*Follower) error {
	for _, f := range followers {
		if err := f.complete(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *Follower) complete(ctx context.Context) error {
	if err := f.view.WaitFor(ctx, 0); err != nil {
		return err
	}
	for _, item := range f.view.Items("", nil) {
		if err := f.await(ctx, types.NamespacedName{Namespace: item.Namespace(), Name: item.Name()}); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = nil
	return nil
}

// await waits until the object was delivered or is gone.
func (f *Follower) await(ctx context.Context, name types.NamespacedName) error {
	for {
		f.mu.Lock()
		_, seen := f.seen[name]
		delivered := f.delivered
		f.mu.Unlock()
		if seen {
			return nil
		}
		if _, there := f.view.Get(name.Namespace, name.Name); !there {
			return nil
		}
		select {
		case <-delivered:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
