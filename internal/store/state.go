package store

import (
	"iter"
	"maps"
	"strings"
	"unsafe"

	"github.com/tidwall/btree"
)

// state is a table's objects and their indexes, as copy-on-write trees: a copy costs nothing until one side changes.
// A state that has been copied is changed by one goroutine only; its copies are read by any.
type state struct {
	objects    *btree.BTreeG[item]
	indexes    []index
	unreadable map[string]*UnreadableError // objects that are missing here
}

// item is an object under its key.
type item struct {
	key    string
	labels map[string]string // the record's, so that a list by label passes by most entries without touching them
	entry  *Entry
}

// index lists the keys of the objects that have a value of a field.
type index struct {
	name string
	refs *btree.BTreeG[ref]
}

type ref struct{ value, key string }

func newState(indexes []string) *state {
	s := &state{objects: btree.NewBTreeGOptions(lessItem, btree.Options{NoLocks: true})}
	for _, name := range append([]string{OwnerIndex}, indexes...) {
		s.indexes = append(s.indexes, index{name: name, refs: btree.NewBTreeGOptions(lessRef, btree.Options{NoLocks: true})})
	}
	return s
}

func lessItem(a, b item) bool { return a.key < b.key }

func lessRef(a, b ref) bool {
	if a.value != b.value {
		return a.value < b.value
	}
	return a.key < b.key
}

// copy returns a state that later changes of this one do not reach.
func (s *state) copy() *state {
	c := &state{objects: s.objects.Copy(), indexes: make([]index, len(s.indexes)), unreadable: maps.Clone(s.unreadable)}
	for i, x := range s.indexes {
		c.indexes[i] = index{name: x.name, refs: x.refs.Copy()}
	}
	return c
}

func (s *state) get(key string) *Entry {
	it, _ := s.objects.Get(item{key: key})
	return it.entry
}

// set puts an entry in place of the former one under its key, which it returns.
func (s *state) set(e *Entry) (former *Entry) {
	it, _ := s.objects.Set(item{key: e.key, labels: e.record.Labels, entry: e})
	s.reindex(e.key, it.entry, e)
	return it.entry
}

// remove takes a key's entry away and returns it.
func (s *state) remove(key string) (former *Entry) {
	it, ok := s.objects.Delete(item{key: key})
	if !ok {
		return nil
	}
	s.reindex(key, it.entry, nil)
	return it.entry
}

func (s *state) reindex(key string, former, now *Entry) {
	for _, x := range s.indexes {
		if x.name == OwnerIndex {
			x.reindexOwners(key, former, now)
			continue
		}
		was, is := former.field(x.name), now.field(x.name)
		if former != nil && now != nil && was == is {
			continue
		}
		if former != nil {
			x.refs.Delete(ref{was, key})
		}
		if now != nil {
			x.refs.Set(ref{is, key})
		}
	}
}

func (x index) reindexOwners(key string, former, now *Entry) {
	if former != nil {
		for i := range former.record.Owners {
			if uid := string(former.record.Owners[i].UID); !now.ownedBy(uid) {
				x.refs.Delete(ref{uid, key})
			}
		}
	}
	if now != nil {
		for i := range now.record.Owners {
			if uid := string(now.record.Owners[i].UID); !former.ownedBy(uid) {
				x.refs.Set(ref{uid, key})
			}
		}
	}
}

// field is a selectable field's value; "" for no entry.
func (e *Entry) field(name string) string {
	if e == nil {
		return ""
	}
	return e.record.Fields[name]
}

func (e *Entry) ownedBy(uid string) bool {
	if e == nil {
		return false
	}
	for i := range e.record.Owners {
		if string(e.record.Owners[i].UID) == uid {
			return true
		}
	}
	return false
}

// Snapshot is a table's state at a revision. It never changes and needs no closing.
type Snapshot struct {
	state    *state
	revision int64
}

// Revision is the state's revision.
func (s Snapshot) Revision() int64 { return s.revision }

// Get returns the entry of a key.
func (s Snapshot) Get(key string) (*Entry, bool) {
	e := s.state.get(key)
	return e, e != nil
}

// Ascend calls fn for the entries whose key begins with prefix and lies after `after` ("": from the start), in key
// order, until fn returns false.
func (s Snapshot) Ascend(prefix, after string, fn func(*Entry) bool) {
	s.ascend(prefix, after, func(it item) bool { return fn(it.entry) })
}

// AscendLabelled is Ascend for the entries whose labels are chosen. choose must be pure: entries share sets of labels, and a set
// is judged once for most of those who have it.
func (s Snapshot) AscendLabelled(prefix, after string, choose func(map[string]string) bool, fn func(*Entry) bool) {
	var judged [256]struct {
		set           unsafe.Pointer
		known, chosen bool
	}
	s.ascend(prefix, after, func(it item) bool {
		set := *(*unsafe.Pointer)(unsafe.Pointer(&it.labels)) // a map is a pointer, and the snapshot holds it
		last := &judged[uintptr(set)>>4*0x9e3779b97f4a7c15>>56]
		if !last.known || last.set != set {
			last.set, last.known, last.chosen = set, true, choose(it.labels)
		}
		return !last.chosen || fn(it.entry)
	})
}

// countFrom is the size of a table from which the end of a range is found before the pass, so that the pass looks at no keys.
const countFrom = 512

func (s Snapshot) ascend(prefix, after string, fn func(item) bool) {
	start := prefix
	if after >= prefix && after != "" {
		start = after + "\x00"
	}
	switch {
	case prefix == "":
		s.state.objects.Ascend(item{key: start}, fn)
	case s.state.objects.Len() < countFrom:
		s.state.objects.Ascend(item{key: start}, func(it item) bool { return strings.HasPrefix(it.key, prefix) && fn(it) })
	default:
		rest := s.rank(rangeEnd(prefix)) - s.rank(start)
		if rest <= 0 {
			return
		}
		s.state.objects.Ascend(item{key: start}, func(it item) bool {
			rest--
			return fn(it) && rest > 0
		})
	}
}

// Count is how many entries' keys begin with prefix.
func (s Snapshot) Count(prefix string) int {
	if prefix == "" {
		return s.state.objects.Len()
	}
	end := rangeEnd(prefix)
	return s.rank(end) - s.rank(prefix)
}

// CountAfter is how many entries' keys begin with prefix and lie after a key: what a list that stops there leaves.
func (s Snapshot) CountAfter(prefix, after string) int {
	end := s.state.objects.Len()
	if prefix != "" {
		end = s.rank(rangeEnd(prefix))
	}
	return max(0, end-s.rank(max(prefix, after+"\x00")))
}

// rank is the number of keys below a key.
func (s Snapshot) rank(key string) int {
	low, high := 0, s.state.objects.Len()
	for low < high {
		mid := (low + high) / 2
		if it, _ := s.state.objects.GetAt(mid); it.key < key {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// ByIndex returns the entries whose index has a value, in key order. An index that the table lacks has no entries.
func (s Snapshot) ByIndex(name, value string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, x := range s.state.indexes {
			if x.name != name {
				continue
			}
			x.refs.Ascend(ref{value: value}, func(r ref) bool {
				return r.value == value && yield(s.state.get(r.key))
			})
		}
	}
}
