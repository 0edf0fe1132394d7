package h2

import (
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// bufferBytes is how much of a response is gathered before it is put down. What fits goes out as one, with its length.
const bufferBytes = 4 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bufferBytes); return &b }}

// response is the http.ResponseWriter of a stream. It is the handler's alone until its parts are put down.
type response struct {
	stream   *stream
	header   http.Header
	fields   []hpack.HeaderField // as they are when the status is written
	status   int                 // 0 until it is written
	declared int64               // Content-Length; -1 if not set
	written  int64
	buffer   *[]byte // nil until something is written
	sent     bool    // the headers are
	ended    bool    // the last frame has been put down
	trailers []string
}

var _ interface {
	http.ResponseWriter
	http.Flusher
} = (*response)(nil)

func newResponse(s *stream) *response {
	return &response{stream: s, header: make(http.Header, 8), declared: -1}
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(code int) {
	if w.status != 0 {
		return
	}
	if code < 100 || code > 999 {
		panic("invalid WriteHeader code " + strconv.Itoa(code))
	}
	if code < 200 {
		w.inform(code)
		return
	}
	w.status = code
	if text := w.header.Get("Content-Length"); text != "" {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			delete(w.header, "Content-Length")
		} else {
			w.declared = int64(n)
		}
	}
	for _, list := range w.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			key := textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
			if httpguts.ValidTrailerHeader(key) && !slices.Contains(w.trailers, key) {
				w.trailers = append(w.trailers, key)
			}
		}
	}
	w.fields = appendFields(make([]hpack.HeaderField, 1, len(w.header)+4), w.header)
	w.fields[0] = hpack.HeaderField{Name: ":status", Value: strconv.Itoa(code)}
}

// inform sends an informational response.
func (w *response) inform(code int) {
	fields := appendFields([]hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(code)}}, w.header)
	c := w.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone(w.stream) == nil {
		c.putHeaders(w.stream.id, fields, false)
		c.flush()
	}
}

// goOn tells a client that waits for it to send the body.
func (s *stream) goOn() {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone(s) == nil {
		c.putHeaders(s.id, []hpack.HeaderField{{Name: ":status", Value: "100"}}, false)
		c.flush()
	}
}

// appendFields adds the headers that HTTP/2 can carry.
func appendFields(dst []hpack.HeaderField, h http.Header) []hpack.HeaderField {
	for key, values := range h {
		if strings.HasPrefix(key, http.TrailerPrefix) || !httpguts.ValidHeaderFieldName(key) {
			continue
		}
		name := lower(key)
		switch name {
		case "connection", "proxy-connection", "transfer-encoding", "upgrade", "keep-alive":
			continue
		}
		for _, v := range values {
			if httpguts.ValidHeaderFieldValue(v) {
				dst = append(dst, hpack.HeaderField{Name: name, Value: v, Sensitive: volatile(name)})
			}
		}
	}
	return dst
}

// volatile tells which headers differ from response to response: in the table of those that were sent they would only take
// the place of others.
func volatile(name string) bool { return name == "audit-id" || name == "content-length" }

// Header names that are written are few: the lower-case forms of the first ones are kept.
var (
	lowered      sync.Map // string → string
	loweredCount atomic.Int32
)

const maxLowered = 256

func lower(key string) string {
	if known, ok := lowered.Load(key); ok {
		return known.(string)
	}
	name := strings.ToLower(key)
	if loweredCount.Add(1) <= maxLowered {
		lowered.Store(strings.Clone(key), name)
	}
	return name
}

// bodyless tells which responses carry no body.
func (w *response) bodyless() bool {
	return w.status == http.StatusNoContent || w.status == http.StatusNotModified
}

// Write implements http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.bodyless() {
		return 0, http.ErrBodyNotAllowed
	}
	w.written += int64(len(p))
	if w.declared >= 0 && w.written > w.declared {
		return 0, http.ErrContentLength
	}
	if w.stream.request.Method == http.MethodHead {
		return len(p), nil
	}
	if w.buffer == nil {
		w.buffer = buffers.Get().(*[]byte)
	}
	if b := *w.buffer; len(b)+len(p) <= cap(b) {
		*w.buffer = append(b, p...)
		return len(p), nil
	}
	return len(p), w.put(p, w.written == w.declared && !w.hasTrailers(), false)
}

// WriteString implements io.StringWriter.
func (w *response) WriteString(p string) (int, error) { return w.Write([]byte(p)) }

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError serves http.ResponseController.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.put(nil, false, true)
}

// EnableFullDuplex serves http.ResponseController: it is never otherwise.
func (w *response) EnableFullDuplex() error { return nil }

// SetWriteDeadline bounds how long the client may take to read the response; zero does not. It serves http.ResponseController.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.stream.writeBy = t
	return nil
}

// SetReadDeadline bounds how long the client may take to send the request's body; zero does not. It serves http.ResponseController.
func (w *response) SetReadDeadline(t time.Time) error {
	if b := w.stream.body; b != nil {
		b.setDeadline(t)
	}
	return nil
}

// put puts down the headers, if that has not been done, what was gathered, and p. flush sends it in any case; what is long is
// sent anyway.
func (w *response) put(p []byte, end, flush bool) error {
	c := w.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.gone(w.stream); err != nil {
		return err
	}
	if w.ended {
		return nil
	}
	var gathered []byte
	if w.buffer != nil {
		gathered = *w.buffer
		*w.buffer = gathered[:0]
	}
	if !w.sent {
		w.sendHeaders(gathered, p, end)
	}
	if w.ended {
		w.complete()
		return nil
	}
	if len(gathered) > 0 {
		if err := c.putData(w.stream, gathered, end && len(p) == 0); err != nil {
			return err
		}
	}
	if len(p) > 0 || end && len(gathered) == 0 {
		if err := c.putData(w.stream, p, end); err != nil {
			return err
		}
	}
	if flush {
		w.release() // a stream that waits for its next event holds nothing
	}
	switch w.ended = end; {
	case end:
		w.complete()
	case flush || len(c.out) >= blockBytes:
		c.flush()
	}
	return nil
}

// complete makes room for another stream before the client learns that this one is complete. The connection's lock is held.
func (w *response) complete() {
	c := w.stream.conn
	if w.stream.received {
		c.forget(w.stream)
	}
	c.flush()
}

// sendHeaders completes the headers and puts them down. If nothing follows they end the stream. The connection's lock is held.
func (w *response) sendHeaders(gathered, p []byte, end bool) {
	w.sent = true
	if len(gathered) == 0 {
		gathered = p
	}
	if _, set := w.header["Content-Type"]; !set && len(gathered) > 0 && w.header["Content-Encoding"] == nil {
		w.fields = append(w.fields, hpack.HeaderField{Name: "content-type", Value: http.DetectContentType(gathered)})
	}
	if _, set := w.header["Date"]; !set {
		w.fields = append(w.fields, hpack.HeaderField{Name: "date", Value: date(time.Now())})
	}
	if end && len(gathered) == 0 {
		w.ended = true
	}
	w.stream.conn.putHeaders(w.stream.id, w.fields, w.ended)
	w.fields = nil
}

// finish sends what has not been sent.
func (w *response) finish() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	head := w.stream.request.Method == http.MethodHead
	if !w.sent && w.declared < 0 && !w.bodyless() && (!head || w.written > 0) && !w.hasTrailers() {
		w.fields = append(w.fields, hpack.HeaderField{Name: "content-length", Value: strconv.FormatInt(w.written, 10), Sensitive: true})
	}
	if w.hasTrailers() {
		w.finishWithTrailers()
		return
	}
	if w.declared > w.written && !head && !w.bodyless() {
		w.abort() // the client must not take what it got for all
		return
	}
	if !w.ended {
		_ = w.put(nil, true, true) // a client that has gone needs no answer
	}
}

// abort ends the response short of what it declared.
func (w *response) abort() {
	c := w.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !w.stream.closed {
		c.resetStream(w.stream.id, http2.ErrCodeInternal)
		c.close(w.stream, http.ErrContentLength)
	}
}

func (w *response) hasTrailers() bool {
	if len(w.trailers) > 0 {
		return true
	}
	for key := range w.header {
		if strings.HasPrefix(key, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

func (w *response) finishWithTrailers() {
	if w.put(nil, false, false) != nil {
		return
	}
	trailer := http.Header{}
	for _, key := range w.trailers {
		if values := w.header[key]; values != nil {
			trailer[key] = values
		}
	}
	for key, values := range w.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok {
			trailer[textproto.CanonicalMIMEHeaderKey(name)] = values
		}
	}
	fields := appendFields(nil, trailer)
	c := w.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone(w.stream) != nil {
		return
	}
	w.ended = true
	if len(fields) > 0 {
		c.putHeaders(w.stream.id, fields, true)
	} else {
		c.reserve(0)
		c.out = appendFrame(c.out, 0, http2.FrameData, http2.FlagDataEndStream, w.stream.id)
	}
	w.complete()
}

// release gives back what was borrowed.
func (w *response) release() {
	if w.buffer != nil {
		*w.buffer = (*w.buffer)[:0]
		buffers.Put(w.buffer)
		w.buffer = nil
	}
}

// dated is the Date header of a second.
type dated struct {
	second int64
	text   string
}

var today atomic.Pointer[dated]

func date(now time.Time) string {
	if d := today.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &dated{now.Unix(), now.UTC().Format(http.TimeFormat)}
	today.Store(d)
	return d.text
}
