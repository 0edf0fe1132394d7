package stored

import (
	"bytes"
	"hash/maphash"
	"sync"
)

// recentLimit bounds how many drafts wait for their value to come back. The store brings a value back within
// about a millisecond; a draft that is pushed out costs one decoding.
const recentLimit = 1024

var seed = maphash.MakeSeed()

// recent holds drafts by the hash of their value. Its zero value is empty.
type recent struct {
	mu     sync.Mutex
	drafts map[uint64]*Draft
	order  []uint64 // a ring once it has recentLimit elements
	oldest int
}

func (r *recent) add(d *Draft) {
	h := maphash.Bytes(seed, d.Value)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drafts == nil {
		r.drafts = map[uint64]*Draft{}
	}
	if _, there := r.drafts[h]; there {
		return
	}
	r.drafts[h] = d
	if len(r.order) < recentLimit {
		r.order = append(r.order, h)
		return
	}
	delete(r.drafts, r.order[r.oldest])
	r.order[r.oldest] = h
	r.oldest = (r.oldest + 1) % recentLimit
}

func (r *recent) take(value []byte) (*Draft, bool) {
	h := maphash.Bytes(seed, value)
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.drafts[h]
	if !ok || !bytes.Equal(d.Value, value) {
		return nil, false
	}
	delete(r.drafts, h)
	return d, true
}
