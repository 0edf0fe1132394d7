package dra

import (
	"slices"
	"sync"
)

// locks has one thing done to a claim at a time.
type locks struct {
	mu   sync.Mutex
	held map[string]*held
}

type held struct {
	sync.Mutex
	users int
}

// lock takes all of them, in an order that is the same for everyone.
func (l *locks) lock(keys []string) (unlock func()) {
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	taken := make([]*held, len(keys))
	for i, k := range keys {
		l.mu.Lock()
		h := l.held[k]
		if h == nil {
			h = &held{}
			l.held[k] = h
		}
		h.users++
		l.mu.Unlock()
		h.Lock()
		taken[i] = h
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i, k := range keys {
			taken[i].Unlock()
			if taken[i].users--; taken[i].users == 0 {
				delete(l.held, k)
			}
		}
	}
}
