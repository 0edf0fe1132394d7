package remote

import (
	"context"

	"clipper.dev/clipper/internal/client"
)

// maxPending bounds what is queued for one subscriber. One that falls further behind is told the differences when it comes back.
const maxPending = 4096

// subscriber is one caller of Subscribe. Its fields are guarded by the view's mu.
type subscriber struct {
	pending []client.Change
	// seen is set once pending overflowed: the state that pending's last change led to. What came after is the difference from it.
	seen *tree
	wake chan struct{}
}

// push queues a change. now is the view's state with the change in it.
func (s *subscriber) push(change client.Change, now *tree) {
	if s.seen != nil {
		return
	}
	s.pending = append(s.pending, change)
	if len(s.pending) >= maxPending {
		s.seen = now.Copy()
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Subscribe calls fn for every object that is there and then for every change, until ctx ends.
func (v *view) Subscribe(ctx context.Context, fn func(client.Change)) error {
	s := &subscriber{wake: make(chan struct{}, 1)}
	v.mu.Lock()
	start, revision := v.items.Copy(), v.revision
	v.subs[s] = struct{}{}
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		delete(v.subs, s)
		v.mu.Unlock()
	}()
	differences(new(tree), start, revision, func(c client.Change) bool {
		fn(c)
		return ctx.Err() == nil
	})
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		}
		if err := v.drain(ctx, s, fn); err != nil {
			return err
		}
	}
}

// drain delivers what is queued for a subscriber.
func (v *view) drain(ctx context.Context, s *subscriber, fn func(client.Change)) error {
	for {
		v.mu.Lock()
		pending, seen := s.pending, s.seen
		s.pending, s.seen = nil, nil
		var now *tree
		revision := v.revision
		if seen != nil {
			now = v.items.Copy()
		}
		v.mu.Unlock()
		if len(pending) == 0 {
			return nil
		}
		for _, c := range pending {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			fn(c)
		}
		if seen != nil {
			differences(seen, now, revision, func(c client.Change) bool {
				fn(c)
				return ctx.Err() == nil
			})
		}
	}
}

// differences calls fn for each key that differs between two states: first for what is gone, then for what is new or changed.
func differences(old, now *tree, revision int64, fn func(client.Change) bool) {
	more := true
	old.Scan(func(key string, it *item) bool {
		if _, ok := now.Get(key); !ok {
			more = fn(client.Change{Old: it, Revision: revision})
		}
		return more
	})
	if !more {
		return
	}
	now.Scan(func(key string, it *item) bool {
		before, had := old.Get(key)
		switch {
		case !had:
			return fn(client.Change{New: it, Revision: it.Revision()})
		case before != it:
			return fn(client.Change{Old: before, New: it, Revision: it.Revision()})
		}
		return true
	})
}
