package controller

import (
	"context"
	"time"

	"clipper.dev/clipper/internal/store"
)

// Elector decides which of the servers runs the controllers.
type Elector interface {
	// Campaign blocks until this process leads.
	Campaign(ctx context.Context) (Term, error)
}

// Term is one period of leadership.
type Term interface {
	// Fence is the condition that the writes of this term carry.
	Fence() store.Fence
	// Lost is closed when this process no longer surely leads.
	Lost() <-chan struct{}
	// Release gives the leadership up at once.
	Release(ctx context.Context) error
}

// StoreElector elects by a key in etcd that its holder keeps alive.
type StoreElector struct {
	Store *store.Store
	// Key is the full key: "/clipper/leader/controllers".
	Key string
	// Identity names this process; a key that an earlier process of the same identity left behind is taken over at once.
	Identity string
	// TTL is how long the key outlives a holder that vanished.
	TTL time.Duration
}

// Campaign blocks until this process holds the key.
func (e StoreElector) Campaign(ctx context.Context) (Term, error) {
	lease, err := e.Store.AcquireLease(ctx, e.Key, e.Identity, e.TTL)
	if err != nil {
		return nil, err
	}
	return lease, nil
}
