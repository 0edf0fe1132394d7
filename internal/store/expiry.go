package store

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// errNoLease tells that a lease has expired.
var errNoLease = errors.New("lease not found")

// expiryLeases gives objects that expire their leases. Objects written within a short while of each other share one,
// because a lease costs etcd more than an object; each then lives a little longer than asked.
type expiryLeases struct {
	mu    sync.Mutex
	byTTL map[int64]*sharedLease
}

type sharedLease struct {
	id      int64
	until   time.Time // no further objects after this
	objects int
}

const (
	sharedLeaseObjects = 1000
	sharedLeaseWindow  = time.Minute
	sharedLeasePercent = 5
)

// lease returns a lease that lasts at least ttl.
func (l *expiryLeases) lease(ctx context.Context, b backend, ttl time.Duration) (int64, error) {
	seconds := max(1, int64(math.Ceil(ttl.Seconds())))
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.byTTL[seconds]; s != nil && s.objects < sharedLeaseObjects && time.Now().Before(s.until) {
		s.objects++
		return s.id, nil
	}
	window := min(sharedLeaseWindow, time.Duration(seconds)*time.Second*sharedLeasePercent/100)
	id, err := b.grant(ctx, seconds+int64(window/time.Second))
	if err != nil {
		return 0, err
	}
	if l.byTTL == nil {
		l.byTTL = map[int64]*sharedLease{}
	}
	l.byTTL[seconds] = &sharedLease{id: id, until: time.Now().Add(window), objects: 1}
	return id, nil
}

// forget lets the next object have a new lease.
func (l *expiryLeases) forget(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ttl, s := range l.byTTL {
		if s.id == id {
			delete(l.byTTL, ttl)
		}
	}
}
