package apiserver

import "clipper.dev/clipper/internal/client"

// Item returns an object's metadata without decoding it; see client.Lookup.
func (w *view) Item(namespace, name string) (client.Item, bool) {
	e, ok := w.v.table.Snapshot().Get(w.v.key(namespace, name))
	if !ok || !w.inside(e.Record()) {
		return nil, false
	}
	return item{w.v, e}, true
}
