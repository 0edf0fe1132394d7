// Package backoff remembers how often something has failed, and how long to leave it alone.
//
//	t := backoff.New(10*time.Second, 5*time.Minute)
//	until := t.Failed(key, now)   // the wait doubles with each failure
//	until = t.Until(key, now)     // zero: it may be tried
//
// A key that hasn't failed for twice the longest wait begins anew.
package backoff

import (
	"sync"
	"time"
)

// Tracker keeps the waits of many keys. Its methods may be called concurrently.
type Tracker struct {
	initial, longest time.Duration

	mu      sync.Mutex
	entries map[string]entry
}

type entry struct {
	wait time.Duration
	last time.Time
}

// New returns a tracker whose waits double from initial to longest.
func New(initial, longest time.Duration) *Tracker {
	return &Tracker{initial: initial, longest: longest, entries: map[string]entry{}}
}

// Failed notes a failure and returns until when to wait.
func (t *Tracker) Failed(key string, now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[key]
	switch {
	case !ok, now.Sub(e.last) > 2*t.longest:
		e.wait = t.initial
	default:
		e.wait = min(2*e.wait, t.longest)
	}
	e.last = now
	t.entries[key] = e
	return now.Add(e.wait)
}

// Until returns until when to wait; zero when there is nothing to wait for.
func (t *Tracker) Until(key string, now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[key]
	if until := e.last.Add(e.wait); ok && now.Before(until) {
		return until
	}
	return time.Time{}
}

// Wait returns the current wait of a key.
func (t *Tracker) Wait(key string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entries[key].wait
}

// Last returns when a key failed last, and whether it did.
func (t *Tracker) Last(key string) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[key]
	return e.last, ok
}

// Forget drops what is known of a key.
func (t *Tracker) Forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.entries, key)
}
