package apiserver

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/store"
)

// Objects that are stored but can't be read, because what encrypted them is away or lost, fail the requests that they concern: to pass over
// them would tell clients that they are gone.

// hiddenObject is the answer to a request for one of them.
func hiddenObject(e *store.UnreadableError) error { return apierrors.NewInternalError(e.Err) }

// hidden returns the first of them that a list may have to show; nil if there's none. Nothing but names is known of them.
func (c choice) hidden(v *version, at listState, prefix string) *store.UnreadableError {
	if key, ok := c.name(v); ok && at.after == "" {
		return at.snapshot.Unreadable(key)
	}
	return at.snapshot.UnreadableIn(prefix, at.after)
}
