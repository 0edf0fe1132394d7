package csi

import (
	"context"
	"sync"
)

// locks let one at a time work on a volume. Its zero value is ready.
type locks struct {
	mu   sync.Mutex
	held map[string]*queue
}

type queue struct {
	turn    chan struct{} // full while nobody works
	waiting int
}

// lock waits for its turn and returns how to pass it on.
func (l *locks) lock(ctx context.Context, key string) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*queue{}
	}
	q := l.held[key]
	if q == nil {
		q = &queue{turn: make(chan struct{}, 1)}
		q.turn <- struct{}{}
		l.held[key] = q
	}
	q.waiting++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if q.waiting--; q.waiting == 0 {
			delete(l.held, key)
		}
	}
	select {
	case <-q.turn:
		return func() { q.turn <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
