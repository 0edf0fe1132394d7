package apiserver

import "clipper.dev/clipper/internal/api"

// Tracked says what is written and as which version.
type Tracked struct {
	Resource    *api.Resource
	Own         *api.Resource // what the row is in the version, if that differs: of custom resources; nil is the row
	Version     string        // of the request: managed fields are recorded in it
	Subresource string        // "", "status", "scale" or another
}

// A FieldTracker keeps metadata.managedFields. Objects are of the row's hub type. It is called on every write, after
// decoding and before mutating admission, and must be safe for concurrent use.
type FieldTracker interface {
	// Update records in changed, in place, that manager owns what differs between live and changed. live is nil, read-only, on creation.
	// It never fails: fields that can't be told apart are left as live has them.
	Update(t Tracked, live, changed api.Object, manager string)
	// Apply merges an apply patch (YAML or JSON, of the tracked version) into live, which is nil when the object doesn't exist,
	// and returns a new object. Without force, fields that other managers own with other values are an apierrors Conflict as upstream's.
	Apply(t Tracked, live api.Object, patch []byte, manager string, force bool) (api.Object, error)
}
