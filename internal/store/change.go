package store

import (
	"sync"
	"sync/atomic"
)

// change is what one revision did to one object. All watchers and the log share it.
type change struct {
	revision int64
	former   *Entry // nil: it was created
	now      *Entry // nil: it was deleted
	table    *Table

	gone   atomic.Pointer[Entry] // the former object at this revision, made when first asked for
	frames frames
}

// either is the object after the change or, if it is gone, before.
func (c *change) either() *Entry {
	if c.now != nil {
		return c.now
	}
	return c.former
}

// key is the object's key.
func (c *change) key() string { return c.either().key }

// size is the memory that the log keeps alive for a change: what the tree does not hold anyway.
func (c *change) size() int64 { return c.former.size() + changeOverheadBytes }

const changeOverheadBytes = 128

// deleted is the former object with this revision as its resourceVersion.
func (c *change) deleted() *Entry {
	if e := c.gone.Load(); e != nil {
		return e
	}
	former := c.former
	e := &Entry{key: former.key, revision: c.revision, record: former.record, source: former.source}
	raw, err := former.source.kind.At(former.Raw(), c.revision)
	if err != nil {
		c.table.log().Error("a deleted object keeps its former resourceVersion", "key", c.table.path(former.key), "err", err)
		raw = former.Raw()
	}
	e.content.set(raw)
	if c.gone.CompareAndSwap(nil, e) {
		return e
	}
	return c.gone.Load()
}

// EventType says what happened, relative to the watcher's selector.
type EventType uint8

// The types of event.
const (
	Added EventType = iota + 1
	Modified
	Deleted
)

// String is the type as the API spells it.
func (t EventType) String() string {
	switch t {
	case Added:
		return "ADDED"
	case Modified:
		return "MODIFIED"
	case Deleted:
		return "DELETED"
	}
	return "UNKNOWN"
}

// Event is a change as one watcher sees it: an object that leaves the watcher's selection is Deleted, one that enters
// it Added.
type Event struct {
	Type   EventType
	change *change
}

// Revision is the change's revision.
func (e Event) Revision() int64 { return e.change.revision }

// Entry is the object: for Deleted the former object with the change's revision as its resourceVersion.
func (e Event) Entry() *Entry {
	if e.Type == Deleted {
		return e.change.deleted()
	}
	return e.change.now
}

// Former is the object before the change, at its own revision; nil if there was none.
func (e Event) Former() *Entry { return e.change.former }

// Frame returns the event encoded in a format of the caller's numbering. encode is called at most once for each change,
// type and format while its frame is kept; all watchers share the result, which is read-only. An error is not kept.
func (e Event) Frame(format int, encode func() ([]byte, error)) ([]byte, error) {
	return e.change.frames.get(frameKey{e.Type, format}, encode, e.change)
}

// frames are a change's encodings.
type frames struct {
	encoding sync.Mutex // held while one is made, so that it is made once
	made     atomic.Pointer[[]frame]
}

type frameKey struct {
	kind   EventType
	format int
}

type frame struct {
	frameKey
	bytes []byte
}

func (f *frames) find(k frameKey) ([]byte, bool) {
	made := f.made.Load()
	if made == nil {
		return nil, false
	}
	for _, m := range *made {
		if m.frameKey == k {
			return m.bytes, true
		}
	}
	return nil, false
}

func (f *frames) get(k frameKey, encode func() ([]byte, error), c *change) ([]byte, error) {
	if b, ok := f.find(k); ok {
		return b, nil
	}
	f.encoding.Lock()
	defer f.encoding.Unlock()
	if b, ok := f.find(k); ok {
		return b, nil
	}
	b, err := encode()
	if err != nil {
		return nil, err
	}
	made := []frame{{k, b}}
	if old := f.made.Load(); old != nil {
		made = append(made, *old...)
	}
	f.made.Store(&made)
	c.table.store.frames.keep(c, len(b))
	return b, nil
}

// drop forgets the frames. It takes no lock: the cache calls it while frames of other changes are being made.
func (f *frames) drop() { f.made.Store(nil) }

// frameCache bounds the frames that are kept: a frame is of use while its watchers are being served, hardly later.
type frameCache struct {
	limit int64

	mu   sync.Mutex
	ring []keptFrame // oldest at head
	head int
	size int64
}

type keptFrame struct {
	change *change
	size   int64
}

// keep remembers a new frame and lets go of the oldest beyond the limit.
func (fc *frameCache) keep(c *change, size int) {
	fc.mu.Lock()
	defer fc.mu.Unlock()
	fc.ring = append(fc.ring, keptFrame{c, int64(size)})
	fc.size += int64(size)
	for fc.size > fc.limit && fc.head < len(fc.ring)-1 {
		old := fc.ring[fc.head]
		fc.ring[fc.head] = keptFrame{}
		fc.head++
		fc.size -= old.size
		if old.change != c {
			old.change.frames.drop()
		}
	}
	if fc.head > 1024 && fc.head > len(fc.ring)/2 {
		fc.ring = append(fc.ring[:0:0], fc.ring[fc.head:]...)
		fc.head = 0
	}
}

// release lets go of all frames. A watcher that still comes for one has it made again.
func (fc *frameCache) release() {
	fc.mu.Lock()
	defer fc.mu.Unlock()
	for _, kept := range fc.ring[fc.head:] {
		kept.change.frames.drop()
	}
	fc.ring, fc.head, fc.size = nil, 0, 0
}
