package h2

import (
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// A body is a request's body: the reader of the connection puts bytes in, the handler takes them out. What is taken is credited
// to the client, so that no more than a window of it is ever kept.
type body struct {
	stream *stream

	mu      sync.Mutex
	more    sync.Cond
	data    []byte
	at      int
	err     error       // what follows the data
	trailer http.Header // becomes the request's at the end
	expects bool        // the client waits to be told to go on
	closed  bool
	until   time.Time // when everything must have come; zero is no time
}

// maxHintBytes bounds the memory that a client gets for declaring a length.
const maxHintBytes = 32 << 10

func newBody(s *stream, expects bool) *body {
	b := &body{stream: s, expects: expects}
	b.more.L = &b.mu
	return b
}

// put adds bytes; false means that nobody wants them any more.
func (b *body) put(p []byte, sizeHint int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.err != nil {
		return false
	}
	if b.at == len(b.data) {
		b.data, b.at = b.data[:0], 0
	}
	if b.data == nil && sizeHint > int64(len(p)) {
		b.data = make([]byte, 0, min(sizeHint, maxHintBytes))
	}
	b.data = append(b.data, p...)
	b.more.Signal()
	return true
}

// end says what comes after what was put: io.EOF or an error.
func (b *body) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
		b.more.Signal()
	}
}

func (b *body) setDeadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = t
}

// await waits until there are n bytes, or no more to come. The caller holds b.mu.
func (b *body) await(n int) {
	var late *time.Timer
	for len(b.data)-b.at < n && b.err == nil && !b.closed {
		if late == nil && !b.until.IsZero() {
			late = time.AfterFunc(time.Until(b.until), func() { b.end(os.ErrDeadlineExceeded) })
		}
		b.more.Wait()
	}
	if late != nil {
		late.Stop()
	}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.expects {
		b.expects = false
		if b.at == len(b.data) && b.err == nil {
			b.mu.Unlock()
			b.stream.goOn()
			b.mu.Lock()
		}
	}
	b.await(min(len(p), 1))
	if b.closed {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	n := copy(p, b.data[b.at:])
	b.at += n
	var err error
	if b.at == len(b.data) {
		if n == 0 || b.err == io.EOF { //nolint:errorlint // end is given this very value
			err = b.err
		}
		b.data, b.at = b.data[:0], 0
	}
	if err == io.EOF && b.trailer != nil { //nolint:errorlint // end is given this very value
		b.stream.takeTrailer(b.trailer)
		b.trailer = nil
	}
	b.mu.Unlock()
	if n > 0 {
		b.stream.conn.credit(b.stream, n)
	}
	return n, err
}

// Whole waits for all of a short body of which nothing has been read, and hands it over. ok is false, and nothing is taken, if the body is
// another or fails.
func (b *body) Whole() (data []byte, ok bool) {
	b.mu.Lock()
	if b.expects || b.at > 0 || b.stream.request.ContentLength < 0 || b.stream.request.ContentLength > maxHintBytes {
		b.mu.Unlock()
		return nil, false
	}
	b.await(maxHintBytes + 1)
	if b.closed || b.err != io.EOF || b.trailer != nil { //nolint:errorlint // end is given this very value
		b.mu.Unlock()
		return nil, false
	}
	data, b.data = b.data, nil
	b.mu.Unlock()
	if len(data) > 0 {
		b.stream.conn.credit(b.stream, len(data))
	}
	return data, true
}

// Close implements io.Closer. What has not been read is dropped.
func (b *body) Close() error {
	b.mu.Lock()
	n := len(b.data) - b.at
	b.closed, b.data, b.at = true, nil, 0
	b.more.Broadcast()
	b.mu.Unlock()
	if n > 0 {
		b.stream.conn.credit(b.stream, n)
	}
	return nil
}
