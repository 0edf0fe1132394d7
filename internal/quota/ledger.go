package quota

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A Ledger knows what was reserved of quotas for requests that are under way, or whose objects are perhaps not yet seen by who counts
// them. Its zero value is empty and ready.
type Ledger struct {
	mu      sync.Mutex
	entries map[*Reservation]struct{}
}

// Reservation is one entry.
type Reservation struct {
	// Namespace and Quota name the quota, Delta is what was reserved of it.
	Namespace, Quota string
	Delta            corev1.ResourceList
	// Resource and Name are the object's; Name is empty for a reservation that no object's presence settles (updates).
	Resource schema.GroupResource
	Name     string

	claimed   bool      // the quota's status has it
	committed time.Time // zero: under way
}

// settleAfter is how long a committed object may stay unseen.
const settleAfter = 10 * time.Second

// Reserve adds an entry, before the quota's status has it.
func (l *Ledger) Reserve(r *Reservation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries == nil {
		l.entries = map[*Reservation]struct{}{}
	}
	l.entries[r] = struct{}{}
}

// Claimed tells that the quota's status has an entry.
func (l *Ledger) Claimed(r *Reservation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.claimed = true
}

// Commit tells that the object was stored; it stays in the ledger until it is seen.
func (l *Ledger) Commit(r *Reservation, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.committed = now
	if r.Name == "" {
		delete(l.entries, r)
	}
}

// Release takes an entry away.
func (l *Ledger) Release(r *Reservation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.entries, r)
}

// Pending returns what is reserved of a quota for objects that are not yet seen. It is unsettled while a request writes its reservation into the
// status: then nobody can tell whether a status that was read has it.
func (l *Ledger) Pending(namespace, quota string, seen func(gr schema.GroupResource, namespace, name string) bool, now time.Time) (sum corev1.ResourceList, settled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum, settled = corev1.ResourceList{}, true
	for r := range l.entries {
		if r.Namespace != namespace || r.Quota != quota {
			continue
		}
		settled = settled && r.claimed
		visible := r.Name != "" && seen(r.Resource, namespace, r.Name)
		if !r.committed.IsZero() && (visible || now.Sub(r.committed) > settleAfter) {
			delete(l.entries, r)
			continue
		}
		if !visible {
			sum = Add(sum, r.Delta)
		}
	}
	return sum, settled
}
