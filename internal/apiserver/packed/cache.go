package packed

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"hash/crc32"
	"hash/maphash"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

const (
	runLimit = 256 // items of a run at most; most runs end with one in 64
	// maxBytes bounds what a cache keeps.
	maxBytes = 8 << 20
)

// Items are a list's items, in order.
type Items interface {
	Len() int
	// ID identifies an item's content within a form: its key and its version.
	ID(i int) (key string, version int64)
	// Append appends an item as it stands in the list.
	Append(dst []byte, i int) ([]byte, error)
}

// Cache keeps compressed runs. Its zero value is empty and ready for use by several goroutines.
type Cache struct {
	mu     sync.Mutex
	size   int
	blocks map[uint64]*list.Element // of *block
	recent list.List                // the block used last comes first
}

// A block is a compressed run.
type block struct {
	hash     uint64
	form     string
	keys     []string
	versions []int64
	deflated []byte
	sum      uint32
	length   int // of the run itself
}

var seed = maphash.MakeSeed()

// WriteGzip writes a head, the items and tail to w as one gzip stream, run by run: what w is slow to take is not made yet. form names how
// items are encoded.
func (c *Cache) WriteGzip(w io.Writer, form string, head []byte, items Items, tail []byte) error {
	s := stream{w: w}
	s.begin()
	s.store(head)
	start := maphash.String(seed, form)
	for from := 0; from < items.Len() && s.err == nil; {
		to, hash := run(start, items, from)
		b, err := c.block(form, hash, items, from, to)
		if err != nil {
			return err
		}
		s.add(b)
		from = to
	}
	s.store(tail)
	return s.finish()
}

// run finds where the run that begins at an item ends, and the hash of its content. Versions tell almost everything about
// items; whether a kept block has the very keys is looked at when it is found.
func run(start uint64, items Items, from int) (to int, hash uint64) {
	hash = start
	for to = from; to < items.Len(); {
		_, version := items.ID(to)
		mixed := (uint64(version) + start) * 0x9e3779b97f4a7c15
		hash = (hash ^ mixed ^ mixed>>32) * 0xff51afd7ed558ccd
		to++
		if to-from == runLimit || mixed>>58 == 0 {
			break
		}
	}
	return to, hash
}

// block returns a run's compressed form, kept or fresh.
func (c *Cache) block(form string, hash uint64, items Items, from, to int) (*block, error) {
	if b := c.kept(form, hash, items, from, to); b != nil {
		return b, nil
	}
	b, err := compress(form, hash, items, from, to)
	if err != nil {
		return nil, err
	}
	c.keep(b)
	return b, nil
}

func (c *Cache) kept(form string, hash uint64, items Items, from, to int) *block {
	c.mu.Lock()
	e := c.blocks[hash]
	if e != nil {
		c.recent.MoveToFront(e)
	}
	c.mu.Unlock()
	if e == nil {
		return nil
	}
	if b := e.Value.(*block); b.holds(form, items, from, to) {
		return b
	}
	return nil
}

// holds makes sure that the hash told the truth.
func (b *block) holds(form string, items Items, from, to int) bool {
	if b.form != form || len(b.keys) != to-from {
		return false
	}
	for i := range b.keys {
		if key, version := items.ID(from + i); b.versions[i] != version || b.keys[i] != key {
			return false
		}
	}
	return true
}

func (c *Cache) keep(b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocks == nil {
		c.blocks = map[uint64]*list.Element{}
	}
	if old := c.blocks[b.hash]; old != nil {
		c.forget(old)
	}
	c.blocks[b.hash] = c.recent.PushFront(b)
	c.size += b.cost()
	for c.size > maxBytes {
		c.forget(c.recent.Back())
	}
}

func (c *Cache) forget(e *list.Element) {
	b := c.recent.Remove(e).(*block)
	delete(c.blocks, b.hash)
	c.size -= b.cost()
}

func (b *block) cost() int { return len(b.deflated) + 24*len(b.keys) + 200 }

var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is valid
	}
	return w
}}

// scratch is what a run is laid out and compressed in.
type scratch struct {
	plain    []byte
	deflated bytes.Buffer
}

// maxScratch is what is kept for the next run.
const maxScratch = 1 << 20

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) release() {
	if cap(s.plain)+s.deflated.Cap() <= maxScratch {
		scratches.Put(s)
	}
}

func compress(form string, hash uint64, items Items, from, to int) (*block, error) {
	b := &block{hash: hash, form: form, keys: make([]string, 0, to-from), versions: make([]int64, 0, to-from)}
	work := scratches.Get().(*scratch)
	defer work.release()
	plain, out := work.plain[:0], &work.deflated
	var err error
	for i := from; i < to; i++ {
		key, version := items.ID(i)
		b.keys, b.versions = append(b.keys, key), append(b.versions, version)
		if plain, err = items.Append(plain, i); err != nil {
			return nil, err
		}
	}
	work.plain = plain
	out.Reset()
	z := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(z)
	z.Reset(out)
	if _, err := z.Write(plain); err != nil {
		return nil, err
	}
	if err := z.Flush(); err != nil {
		return nil, err
	}
	b.deflated, b.sum, b.length = bytes.Clone(out.Bytes()), crc32.ChecksumIEEE(plain), len(plain)
	return b, nil
}

// A stream is a gzip stream in the making.
type stream struct {
	w      io.Writer
	err    error // of w, which is given nothing after it
	sum    uint32
	length int
}

func (s *stream) begin() { s.append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255}) }

func (s *stream) append(p []byte) {
	if s.err == nil {
		_, s.err = s.w.Write(p)
	}
}

func (s *stream) count(sum uint32, length int) {
	s.sum = combine(s.sum, sum, length)
	s.length += length
}

// store adds bytes uncompressed.
func (s *stream) store(b []byte) {
	s.count(crc32.ChecksumIEEE(b), len(b))
	var out []byte
	for len(b) > 0 {
		n := min(len(b), 0xffff)
		out = append(out, 0, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		out = append(out, b[:n]...)
		b = b[n:]
	}
	s.append(out)
}

func (s *stream) add(b *block) {
	s.count(b.sum, b.length)
	s.append(b.deflated)
}

func (s *stream) finish() error {
	out := []byte{3, 0} // a last block with nothing in it
	out = binary.LittleEndian.AppendUint32(out, s.sum)
	s.append(binary.LittleEndian.AppendUint32(out, uint32(s.length)))
	return s.err
}
