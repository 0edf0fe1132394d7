package apiserver

import "clipper.dev/clipper/internal/client"

// Item returns an object's metadata without decoding it; see client.Lookup.
func (w *view) Item(namespace, name string) (client.Item, bool) {
	e, _ := w.v.table.Get(w.v.key(namespace, name))
	if e == nil || !w.inside(e.Record()) {
		return nil, false
	}
	return item{w.v, e}, true
}
