package apiserver

import (
	"context"
	"hash/maphash"
)

// A turnstile lets those who have lost a race for a key pass one at a time, so that many writers of one object take
// turns instead of undoing each other's attempts. First attempts don't pass through it.
type turnstile [256]chan struct{}

var turnstileSeed = maphash.MakeSeed()

func (t *turnstile) init() {
	for i := range t {
		t[i] = make(chan struct{}, 1)
	}
}

type turnKey struct{}

// enter waits for the key's turn. Keys share turns with few others, which costs a little time and nothing else. Writes
// that are made in the course of another one, with the context returned, don't wait: they might wait for themselves.
func (t *turnstile) enter(ctx context.Context, table, key string) (inside context.Context, leave func(), err error) {
	if ctx.Value(turnKey{}) != nil {
		return ctx, func() {}, nil
	}
	var h maphash.Hash
	h.SetSeed(turnstileSeed)
	_, _ = h.WriteString(table)
	_, _ = h.WriteString(key)
	slot := t[h.Sum64()%uint64(len(t))]
	select {
	case slot <- struct{}{}:
		return context.WithValue(ctx, turnKey{}, true), func() { <-slot }, nil
	case <-ctx.Done():
		return ctx, nil, ctx.Err()
	}
}
