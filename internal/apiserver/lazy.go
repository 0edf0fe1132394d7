package apiserver

import "sync/atomic"

// lazy is a metric that comes with its first use, as upstream's do, and is then found without looking for its labels: a write passes
// some dozens of them.
type lazy[T any] struct{ made atomic.Pointer[T] }

// get returns the metric. What is made twice at the same time is the same, since its vector keeps it.
func (l *lazy[T]) get(make func() T) T {
	if known := l.made.Load(); known != nil {
		return *known
	}
	fresh := make()
	l.made.Store(&fresh)
	return fresh
}
