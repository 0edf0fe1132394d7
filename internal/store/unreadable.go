package store

import (
	"fmt"
	"strings"
)

// UnreadableError is why an object that lies in etcd is in no snapshot: its value can't be decrypted or decoded.
type UnreadableError struct {
	Key      string // in the table
	Path     string // in etcd
	Revision int64
	// Sealed is set for a value that can't be decrypted. It may be some day: see Reread.
	Sealed bool
	Err    error
}

// Error implements error in upstream's words.
func (e *UnreadableError) Error() string {
	if e.Sealed {
		return fmt.Sprintf("unable to transform key %q: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("decode %s: %v", e.Path, e.Err)
}

// Unwrap serves errors.Is.
func (e *UnreadableError) Unwrap() error { return e.Err }

// within tells whether a watch may concern the object: nothing but its key is known.
func (e *UnreadableError) within(o *WatchOptions) bool {
	namespace, name, namespaced := strings.Cut(e.Key, "/")
	if !namespaced {
		namespace, name = "", e.Key
	}
	return (o.Namespace == "" || o.Namespace == namespace) && (o.Name == "" || o.Name == name)
}

// Unreadable tells why the snapshot doesn't have a key's object though it exists; nil if that's not so.
func (s Snapshot) Unreadable(key string) *UnreadableError { return s.state.unreadable[key] }

// UnreadableIn returns the first object, in key order, that Ascend passes over because it can't be read; nil if there is none.
func (s Snapshot) UnreadableIn(prefix, after string) (first *UnreadableError) {
	for key, e := range s.state.unreadable {
		if strings.HasPrefix(key, prefix) && key > after && (first == nil || key < first.Key) {
			first = e
		}
	}
	return first
}

// Unreadable returns the keys whose values could not be decrypted or decoded, with their revisions. They are in no
// snapshot, yet they exist: Create fails for them, and Delete works.
func (t *Table) Unreadable() map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]int64, len(t.state.unreadable))
	for k, e := range t.state.unreadable {
		out[k] = e.Revision
	}
	return out
}

func (s *state) hide(e *UnreadableError) {
	if s.unreadable == nil {
		s.unreadable = map[string]*UnreadableError{}
	}
	s.unreadable[e.Key] = e
}

// hide takes an object that can't be read out of sight.
// The caller holds the table's lock.
func (t *Table) hide(e *UnreadableError) {
	t.state.hide(e)
	t.state.remove(e.Key)
	t.log().Error("an object cannot be read", "err", e, "revision", e.Revision)
}

// refuse ends the watches that must miss nothing and would miss an object.
func (ws *watchers) refuse(hidden []*UnreadableError) {
	for _, e := range hidden {
		var concerned []*Watch
		ws.each(func(w *Watch) {
			if w.options.Whole && e.within(&w.options) {
				concerned = append(concerned, w)
			}
		})
		for _, w := range concerned {
			ws.remove(w)
			w.end(e, false)
		}
	}
}
