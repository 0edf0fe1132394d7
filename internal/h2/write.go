package h2

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// blockBytes is how much is written at once: some TLS records, which fit a processor's own cache.
	blockBytes = 128 << 10
	// maxControlBytes bounds answers to control frames that a client doesn't read.
	maxControlBytes = 1 << 20
	// pageBytes is what most answers fit into.
	pageBytes = 4 << 10
	// writeTimeout is how long a client may take to accept a block.
	writeTimeout = 30 * time.Second
	// flushRounds is how many blocks a handler writes for others before somebody else goes on.
	flushRounds = 16

	frameHeaderLen = 9
	recordBytes    = 16 << 10
)

var (
	errConnClosed = errors.New("the client's connection is closed")
	errStalled    = errors.New("the client opens no window for the response")
)

// blocks are buffers for frames, and for records; pages are for few and short frames.
var (
	blocks = sync.Pool{New: func() any { b := make([]byte, 0, blockBytes+2*recordBytes); return &b }}
	pages  = sync.Pool{New: func() any { return new([pageBytes]byte) }}
)

// appendFrame appends a frame's header; n bytes of payload must follow.
func appendFrame(dst []byte, n int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	return binary.BigEndian.AppendUint32(dst, id)
}

// control puts down a control frame. The caller holds c.mu and flushes.
func (c *conn) control(t http2.FrameType, flags http2.Flags, id uint32, payload ...byte) {
	if len(c.out) > maxControlBytes {
		c.kill(errors.New("the client does not read answers to its control frames"))
		return
	}
	c.reserve(len(payload))
	c.out = append(appendFrame(c.out, len(payload), t, flags, id), payload...)
}

func (c *conn) controlUint32(t http2.FrameType, id, value uint32) {
	c.control(t, 0, id, byte(value>>24), byte(value>>16), byte(value>>8), byte(value))
}

// putHeaders puts down a header block. The caller holds c.mu. Only here are headers encoded, so that the encoder's table
// follows the order of what is sent.
func (c *conn) putHeaders(id uint32, fields []hpack.HeaderField, end bool) {
	c.block.Reset()
	for _, f := range fields {
		_ = c.encoder.WriteField(f) // writing to a buffer doesn't fail
	}
	block := c.block.Bytes()
	t, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for {
		n := min(len(block), int(c.maxFrame))
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders // the same bit for CONTINUATION
		}
		c.reserve(n)
		c.out = append(appendFrame(c.out, n, t, flags, id), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return
		}
		t, flags = http2.FrameContinuation, 0
	}
}

// putData puts down p as DATA frames, the last of which ends the stream if end is set. It waits for the client's windows and for
// room, and writes what lies in the way. The caller holds c.mu, which is released meanwhile.
func (c *conn) putData(s *stream, p []byte, end bool) error {
	var stall *time.Timer
	defer func() {
		if stall != nil {
			stall.Stop()
		}
	}()
	for {
		if err := c.gone(s); err != nil {
			return err
		}
		if len(p) == 0 {
			if end {
				c.reserve(0)
				c.out = appendFrame(c.out, 0, http2.FrameData, http2.FlagDataEndStream, s.id)
			}
			return nil
		}
		if len(c.out) < blockBytes {
			before := len(p)
			p = c.putFrames(s, p, end)
			if len(p) == 0 {
				return nil
			}
			if stall != nil && len(p) < before {
				stall.Reset(c.patience(s))
			}
		}
		if len(c.out) > 0 && !c.writing {
			c.flush()
			continue
		}
		if len(c.out) < blockBytes && s.sendWindow > 0 && c.sendWindow > 0 {
			continue
		}
		if stall == nil {
			stall = time.AfterFunc(c.patience(s), func() { c.giveUp(s) })
		}
		c.changed.Wait()
	}
}

// patience is how long a response may wait for a window to open.
func (c *conn) patience(s *stream) time.Duration {
	if s.writeBy.IsZero() {
		return c.server.StallTimeout
	}
	return min(c.server.StallTimeout, max(0, time.Until(s.writeBy)))
}

// giveUp ends a stream whose client opens no window, or too slowly.
func (c *conn) giveUp(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone(s) != nil {
		return
	}
	c.resetStream(s.id, http2.ErrCodeCancel)
	c.close(s, errStalled)
	c.flushApart()
}

// putFrames puts down as much of p as windows and room allow, and returns the rest. A frame that carries the last byte ends the
// stream if end is set.
func (c *conn) putFrames(s *stream, p []byte, end bool) []byte {
	for len(p) > 0 && len(c.out) < blockBytes {
		n := min(int64(len(p)), int64(c.maxFrame), s.sendWindow, c.sendWindow)
		if n <= 0 {
			break
		}
		var flags http2.Flags
		if end && int(n) == len(p) {
			flags = http2.FlagDataEndStream
		}
		c.reserve(len(p))
		c.out = append(appendFrame(c.out, int(n), http2.FrameData, flags, s.id), p[:n]...)
		p = p[n:]
		s.sendWindow -= n
		c.sendWindow -= n
	}
	return p
}

// reserve gives the outgoing frames a buffer in which there is room for one with n bytes, or for much of it.
func (c *conn) reserve(n int) {
	n += frameHeaderLen
	if cap(c.out)-len(c.out) >= n || cap(c.out) >= blockBytes {
		return
	}
	former := c.out
	if len(former)+n <= pageBytes {
		c.out = append(pages.Get().(*[pageBytes]byte)[:0], former...)
	} else {
		c.out = append((*blocks.Get().(*[]byte))[:0], former...)
	}
	giveBack(former)
}

// giveBack returns a buffer that reserve gave, and that may have grown since then.
func giveBack(buffer []byte) {
	switch n := cap(buffer); {
	case n == pageBytes:
		pages.Put((*[pageBytes]byte)(buffer[:n]))
	case n >= blockBytes && n <= 4*blockBytes:
		buffer = buffer[:0]
		blocks.Put(&buffer)
	}
}

// gone tells why a stream can't be written to. The caller holds c.mu.
func (c *conn) gone(s *stream) error {
	if c.err != nil {
		return c.err
	}
	if s.closed {
		return s.reason
	}
	return nil
}

// flush sends what has been put down, unless somebody is at it already, who will send this as well. The caller holds c.mu, which
// is released meanwhile.
func (c *conn) flush() {
	if c.writing || len(c.out) == 0 || c.err != nil {
		return
	}
	c.writing = true
	if c.running > 1 && len(c.out) < recordBytes {
		// Others may be about to put down something: the change that this stream's client waits for is often news to them too.
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	for range flushRounds {
		if !c.writeBlock() {
			c.rest()
			return
		}
	}
	c.group.Go(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for c.writeBlock() { //nolint:revive // all that remains
		}
		c.rest()
	})
}

// rest lets somebody else write.
func (c *conn) rest() {
	c.writing = false
	c.changed.Broadcast()
}

// writeBlock sends what is there and tells whether there was something. The caller holds c.mu, which is released meanwhile.
func (c *conn) writeBlock() bool {
	if len(c.out) == 0 || c.err != nil {
		return false
	}
	buffer := c.out
	c.out = nil
	c.mu.Unlock()
	err := c.write(buffer)
	c.mu.Lock()
	giveBack(buffer)
	if err != nil {
		c.kill(err)
	}
	c.changed.Broadcast() // there is room
	return err == nil
}

// write sends bytes over TLS. There is one writer at a time.
func (c *conn) write(p []byte) error {
	if now := time.Now(); now.Sub(c.deadlineSet) > writeTimeout/4 {
		c.deadlineSet = now
		if err := c.tls.SetWriteDeadline(now.Add(writeTimeout + writeTimeout/4)); err != nil {
			return err
		}
	}
	if c.network == nil || len(p) <= recordBytes {
		_, err := c.tls.Write(p)
		return err
	}
	// Records are held back and sent together, so that the client wakes up once.
	buffer := blocks.Get().(*[]byte)
	for len(p) > 0 {
		n := min(len(p), blockBytes+recordBytes)
		c.network.cork(*buffer)
		_, err := c.tls.Write(p[:n])
		held, sendErr := c.network.uncork()
		*buffer = held[:0]
		if err := errors.Join(err, sendErr); err != nil {
			return err
		}
		p = p[n:]
	}
	blocks.Put(buffer)
	return nil
}
