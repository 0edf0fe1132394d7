package store

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
)

// revisionWaiters wakes those who wait for a revision, each exactly when it is reached.
type revisionWaiters struct {
	mu    sync.Mutex
	queue waiterQueue
}

type revisionWaiter struct {
	revision int64
	woken    chan struct{}
	place    int // in the queue; -1 outside
}

// add registers a waiter.
func (w *revisionWaiters) add(revision int64) *revisionWaiter {
	r := &revisionWaiter{revision: revision, woken: make(chan struct{})}
	w.mu.Lock()
	heap.Push(&w.queue, r)
	w.mu.Unlock()
	return r
}

// remove forgets a waiter.
func (w *revisionWaiters) remove(r *revisionWaiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.place >= 0 {
		heap.Remove(&w.queue, r.place)
	}
}

// reached wakes everybody who waits for a revision or an earlier one.
func (w *revisionWaiters) reached(revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) > 0 && w.queue[0].revision <= revision {
		close(heap.Pop(&w.queue).(*revisionWaiter).woken)
	}
}

type waiterQueue []*revisionWaiter

func (q waiterQueue) Len() int           { return len(q) }
func (q waiterQueue) Less(i, j int) bool { return q[i].revision < q[j].revision }
func (q waiterQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *waiterQueue) Push(x any) {
	r := x.(*revisionWaiter)
	r.place = len(*q)
	*q = append(*q, r)
}

// Pop implements heap.Interface.
func (q *waiterQueue) Pop() any {
	old := *q
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	r.place = -1
	return r
}

// WaitFor returns once every table has reached a revision.
func (s *Store) WaitFor(ctx context.Context, revision int64) error {
	if s.applied.Load() >= revision {
		return nil
	}
	w := s.waiters.add(revision)
	defer s.waiters.remove(w)
	if s.applied.Load() >= revision {
		return nil
	}
	select {
	case <-w.woken:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for revision %d: %w", revision, context.Cause(ctx))
	case <-s.stop.Done():
		return fmt.Errorf("wait for revision %d: %w", revision, ErrClosed)
	}
}

// Sync returns once every table has reached the revision that etcd had when the call came: what a linearizable read
// needs.
func (s *Store) Sync(ctx context.Context) (revision int64, err error) {
	if revision, err = s.backend.revision(ctx); err != nil {
		return 0, fmt.Errorf("ask etcd for its revision: %w", err)
	}
	return revision, s.WaitFor(ctx, revision)
}

// Revision is what every table has reached.
func (s *Store) Revision() int64 { return s.applied.Load() }

// catchUp makes sure that every table has reached a revision, or says ErrFuture.
func (s *Store) catchUp(ctx context.Context, revision int64) error {
	if revision <= s.applied.Load() {
		return nil
	}
	now, err := s.Sync(ctx)
	if err != nil {
		return err
	}
	if revision > now {
		return fmt.Errorf("%w: etcd is at %d", ErrFuture, now)
	}
	return nil
}
