package client

import "context"

type notesKey struct{}

// WithNotes returns a context under which a client calls fn with the revision of each change that a write made, deletes included,
// before the write returns. It lets a caller wait until a View shows its own writes. fn may be called concurrently.
func WithNotes(ctx context.Context, fn func(revision int64)) context.Context {
	return context.WithValue(ctx, notesKey{}, fn)
}

// Note tells who asked by WithNotes that a write was stored at a revision. Clients call it; callers of clients don't.
func Note(ctx context.Context, revision int64) {
	if fn, ok := ctx.Value(notesKey{}).(func(int64)); ok {
		fn(revision)
	}
}
