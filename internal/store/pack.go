package store

import (
	"sync/atomic"
	"unsafe"
)

// Bytes that live long lie among others that soon die, and a page of the heap stays as long as anything in it does. Packing
// copies them side by side into slabs, so that what is stored takes its own size and no more.

const (
	slabBytes = 256 << 10
	// packedShare is how much of a slab must be in use, in parts of slabParts, for it to be left alone.
	packedShare, slabParts = 3, 4
	// packedLeast is how much is worth being moved.
	packedLeast = 16 << 10
	// packedLimit is the size from which bytes are left where they are: the heap gives them pages of their own.
	packedLimit = slabBytes / 8
)

// slab holds the bytes of many entries.
type slab struct{ data []byte }

// content is an entry's bytes. They may move, but never change.
type content struct {
	data atomic.Pointer[byte]
	size int
	slab *slab // the packer's
}

func (c *content) set(raw []byte) {
	c.data.Store(unsafe.SliceData(raw))
	c.size = len(raw)
}

func (c *content) bytes() []byte { return unsafe.Slice(c.data.Load(), c.size) }

// Pack lays the bytes of all tables' objects side by side where that is worthwhile, and those of former versions that the logs hold,
// and lets go of what is kept only because it was used lately: it lies scattered over what the load has left. What was read before
// stays valid. Pack is meant for when a load is over, before memory is given back to the system.
func (s *Store) Pack() {
	s.packing.Lock()
	defer s.packing.Unlock()
	s.warm.release()
	s.frames.release()
	var current, former []*Entry
	for _, t := range *s.tables.Load() {
		t.Snapshot().Ascend("", "", func(e *Entry) bool {
			current = append(current, e)
			return true
		})
		former = append(former, t.formerEntries()...)
	}
	pack(current)
	pack(former) // in slabs of their own: they go sooner
}

// formerEntries returns the versions in the log that are in the tree no more.
func (t *Table) formerEntries() []*Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	var former []*Entry
	for _, c := range t.recent.all() {
		for _, e := range []*Entry{c.former, c.gone.Load()} {
			if e != nil {
				former = append(former, e)
			}
		}
	}
	return former
}

// pack moves what lies alone, or in slabs that are mostly empty.
func pack(entries []*Entry) {
	used := map[*slab]int{}
	for _, e := range entries {
		used[e.content.slab] += e.content.size
	}
	var moving []*Entry
	size := 0
	for _, e := range entries {
		at := e.content.slab
		settled := at != nil && used[at]*slabParts >= len(at.data)*packedShare
		if !settled && e.content.size > 0 && e.content.size < packedLimit {
			moving = append(moving, e)
			size += e.content.size
		}
	}
	if size < packedLeast {
		return
	}
	var to *slab
	free := 0
	for _, e := range moving {
		n := e.content.size
		if free < n {
			free = min(size, slabBytes)
			to = &slab{data: make([]byte, free)}
		}
		place := to.data[len(to.data)-free:][:n:n]
		copy(place, e.content.bytes())
		e.content.data.Store(unsafe.SliceData(place))
		e.content.slab = to
		free -= n
		size -= n
	}
}
