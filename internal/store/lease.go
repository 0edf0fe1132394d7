package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Lease is a key held with a time to live: leadership. As long as it is not lost, nobody else holds the key.
type Lease struct {
	store *Store
	fence Fence
	id    int64
	ttl   time.Duration

	lost    chan struct{}
	cancel  context.CancelFunc
	keeping sync.WaitGroup
}

// AcquireLease waits until this process holds a key and keeps it held until Release, or until it is lost. The value
// names the holder: a key that has the same value was left behind by an earlier process of the same name, and is taken
// over at once.
func (s *Store) AcquireLease(ctx context.Context, key, value string, ttl time.Duration) (*Lease, error) {
	for {
		l, holder, revision, err := s.tryLease(ctx, key, value, ttl)
		if err != nil {
			return nil, fmt.Errorf("acquire %s: %w", key, err)
		}
		if l != nil {
			return l, nil
		}
		if string(holder.Value) == value {
			_, err := s.Remove(ctx, key, holder.ModRevision)
			if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) {
				return nil, fmt.Errorf("acquire %s: %w", key, err)
			}
			continue
		}
		if err := s.awaitRemoval(ctx, key, revision); err != nil {
			return nil, fmt.Errorf("acquire %s: %w", key, err)
		}
	}
}

// tryLease takes the key if nobody has it. Else it returns the holder, as of a revision.
func (s *Store) tryLease(ctx context.Context, key, value string, ttl time.Duration) (*Lease, *mvccpb.KeyValue, int64, error) {
	resp, err := s.backend.read(ctx, &etcdserverpb.RangeRequest{Key: []byte(key)})
	if err != nil {
		return nil, nil, 0, err
	}
	if len(resp.Kvs) > 0 {
		return nil, resp.Kvs[0], resp.Header.Revision, nil
	}
	granted := time.Now()
	id, err := s.backend.grant(ctx, max(1, int64(math.Ceil(ttl.Seconds()))))
	if err != nil {
		return nil, nil, 0, fmt.Errorf("grant a lease: %w", err)
	}
	txn, err := s.backend.txn(ctx, &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{ifCreated(key, 0)},
		Success: []*etcdserverpb.RequestOp{putOp(key, []byte(value), id)},
		Failure: []*etcdserverpb.RequestOp{getOp(key)},
	})
	if err == nil && txn.Succeeded {
		return s.keepLease(Fence{Key: key, CreateRevision: txn.Header.Revision}, id, ttl, granted), nil, 0, nil
	}
	if revokeErr := s.backend.revoke(ctx, id); revokeErr != nil {
		s.cfg.Logger.Warn("a lease that was not needed stays until it expires", "key", key, "err", revokeErr)
	}
	if err != nil {
		return nil, nil, 0, err
	}
	return nil, firstOf(txn.Responses[0]), txn.Header.Revision, nil
}

// awaitRemoval waits until a key is removed after a revision.
func (s *Store) awaitRemoval(ctx context.Context, key string, revision int64) error {
	f, err := s.backend.follow(ctx, key, key+"\x00", revision)
	if err != nil {
		return err
	}
	defer f.close()
	for {
		b, err := f.next(ctx)
		if errors.Is(err, ErrCompacted) {
			return nil // look anew
		}
		if err != nil {
			return err
		}
		for _, ev := range b.events {
			if ev.Type == mvccpb.Event_DELETE {
				return nil
			}
		}
	}
}

// keepLease renews a lease until it is released or lost.
func (s *Store) keepLease(f Fence, id int64, ttl time.Duration, granted time.Time) *Lease {
	l := &Lease{store: s, fence: f, id: id, ttl: ttl, lost: make(chan struct{})}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(s.stop)
	l.keeping.Add(1)
	s.wait.Go(func() {
		defer l.keeping.Done()
		defer close(l.lost)
		l.renew(ctx, granted)
	})
	return l
}

// renew returns when the lease is lost: etcd says so, or has not confirmed it for as long as it lives.
func (l *Lease) renew(ctx context.Context, confirmed time.Time) {
	again := time.NewTicker(l.ttl / 3)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		asked := time.Now()
		attempt, cancel := context.WithDeadline(ctx, confirmed.Add(l.ttl))
		err := l.store.backend.renew(attempt, l.id)
		cancel()
		switch {
		case err == nil:
			confirmed = asked
		case ctx.Err() != nil:
			return
		case errors.Is(err, errNoLease) || time.Since(confirmed) >= l.ttl:
			l.store.cfg.Logger.Warn("a lease was lost", "key", l.fence.Key, "err", err)
			return
		}
	}
}

// Fence is the condition for the holder's writes: use it with WithFence.
func (l *Lease) Fence() Fence { return l.fence }

// Lost is closed when the key is no longer surely held: it was lost, released, or the store has stopped.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Release gives the key up at once.
func (l *Lease) Release(ctx context.Context) error {
	l.cancel()
	l.keeping.Wait()
	if err := l.store.backend.revoke(ctx, l.id); err != nil && !errors.Is(err, errNoLease) {
		return fmt.Errorf("release %s: %w", l.fence.Key, err)
	}
	return nil
}
