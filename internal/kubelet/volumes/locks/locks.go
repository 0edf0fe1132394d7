// Package locks lets one at a time work on what has a name: a volume, a storage target.
package locks

import (
	"context"
	"sync"
)

// ByName are locks that exist while somebody holds them or waits for them. Its zero value is ready. Its method may be called concurrently.
type ByName struct {
	mu   sync.Mutex
	held map[string]*queue
}

type queue struct {
	turn    chan struct{} // full while nobody works
	waiting int
}

// Lock waits for its turn at a name and returns how to pass it on. The error is ctx's.
func (l *ByName) Lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*queue{}
	}
	q := l.held[name]
	if q == nil {
		q = &queue{turn: make(chan struct{}, 1)}
		q.turn <- struct{}{}
		l.held[name] = q
	}
	q.waiting++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if q.waiting--; q.waiting == 0 {
			delete(l.held, name)
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
