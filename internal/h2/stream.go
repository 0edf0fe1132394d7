package h2

import (
	"context"
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
)

// stream is one request and its response. What is below the handler's part is guarded by the connection's lock.
type stream struct {
	conn     *conn
	id       uint32
	request  *http.Request
	body     *body // nil if the request has none
	cancel   context.CancelFunc
	tooLarge bool // the headers were

	writeBy    time.Time // when the client must have read the response; the handler's
	sendWindow int64
	recvWindow int64
	uncredited int64
	declared   int64 // Content-Length; -1 if unknown
	got        int64
	fields     int64 // bytes of headers
	received   bool  // the client has sent everything
	closed     bool
	reason     error
}

// onHeaders opens a stream, or takes the trailers of one.
func (c *conn) onHeaders(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	if id%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if s := c.streams[id]; s != nil {
		return c.onTrailers(s, f)
	}
	if id <= c.lastID {
		if slices.Contains(c.resets[:], id) {
			return nil
		}
		return http2.ConnectionError(http2.ErrCodeStreamClosed)
	}
	if c.draining {
		return nil // the client was told that these are not served
	}
	if f.HasPriority() && f.Priority.StreamDep == id {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	c.lastID = id
	if len(c.streams) >= int(c.server.MaxStreams) || c.fields > maxHeaderLists*int64(c.server.MaxHeaderBytes) {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeRefusedStream}
	}
	s, err := c.newStream(f)
	if err != nil {
		return err
	}
	c.streams[id] = s
	c.fields += s.fields
	if c.running < int(c.server.MaxStreams) {
		c.start(s)
		return nil
	}
	return c.wait(s)
}

// maxHeaderLists bounds the memory of a connection's headers to those of so many requests with the largest ones.
const maxHeaderLists = 8

// maxDropped is how many streams a client may give up while no handler gets free.
const maxDropped = 1000

// wait keeps a stream until a handler is free. A client that resets what it opens leaves handlers behind: they count until they
// return. No more streams wait than are open, and who goes on like that is sent away.
func (c *conn) wait(s *stream) error {
	before := len(c.waiting)
	c.waiting = slices.DeleteFunc(c.waiting, func(s *stream) bool { return s.closed })
	c.dropped += before - len(c.waiting)
	c.waiting = append(c.waiting, s)
	if c.dropped > maxDropped {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

func (c *conn) start(s *stream) {
	c.running++
	c.dropped = 0
	if c.free > 0 {
		c.free--
		c.next <- s
		return
	}
	c.group.Go(func() {
		for next := s; next != nil; next = c.await() {
			next.serve()
		}
	})
}

// await returns a further stream for a goroutine that has served one, whose stack has grown to what handlers need; nil if it
// is not needed any more.
func (c *conn) await() *stream {
	c.mu.Lock()
	enough := c.err != nil || c.free == maxFree
	if !enough {
		c.free++
	}
	c.mu.Unlock()
	if enough {
		return nil
	}
	return <-c.next // closed with the connection
}

func (c *conn) onTrailers(s *stream, f *http2.MetaHeadersFrame) error {
	if s.received {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeStreamClosed}
	}
	if !f.StreamEnded() || len(f.PseudoFields()) > 0 {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	}
	trailer := http.Header{}
	for _, field := range f.RegularFields() {
		key := textproto.CanonicalMIMEHeaderKey(field.Name)
		if !httpguts.ValidTrailerHeader(key) {
			return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
		}
		trailer[key] = append(trailer[key], field.Value)
	}
	s.body.mu.Lock()
	s.body.trailer = trailer
	s.body.mu.Unlock()
	return c.bodyEnded(s)
}

var errMalformed = errors.New("malformed request")

// newStream makes the request that a header block begins.
func (c *conn) newStream(f *http2.MetaHeadersFrame) (*stream, error) {
	s := &stream{
		conn: c, id: f.StreamID, sendWindow: c.initialWindow, recvWindow: windowBytes, declared: -1, received: f.StreamEnded(), tooLarge: f.Truncated,
	}
	ctx, cancel := context.WithCancel(c.ctx)
	s.cancel = cancel
	s.request = blank.WithContext(ctx)
	if err := s.fill(s.request, f); err != nil {
		cancel()
		return nil, http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol, Cause: err}
	}
	return s, nil
}

// blank is what requests begin as: with a context, which can only be set by copying.
var blank http.Request

// fill makes a request of a header block.
func (s *stream) fill(r *http.Request, f *http2.MetaHeadersFrame) error {
	scheme, err := s.readFields(r, f)
	if err != nil || !s.tooLarge && (r.Method == "" || r.Method != http.MethodConnect && (r.RequestURI == "" || scheme != "https" && scheme != "http")) {
		return errMalformed
	}
	if err := s.target(r); err != nil && !s.tooLarge {
		return err
	}
	if err := s.length(r); err != nil {
		return err
	}
	r.Proto, r.ProtoMajor, r.RemoteAddr, r.TLS = "HTTP/2.0", 2, s.conn.remote, &s.conn.state
	r.Body = http.NoBody
	if !s.received {
		s.body = newBody(s, httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue"))
		r.Body = s.body
	}
	return nil
}

// readFields takes a header block apart.
func (s *stream) readFields(r *http.Request, f *http2.MetaHeadersFrame) (scheme string, err error) {
	values := make([]string, len(f.Fields)) // one allocation for all headers that have one value
	r.Header = make(http.Header, len(f.Fields))
	for _, field := range f.Fields {
		s.fields += int64(field.Size())
		switch field.Name {
		case ":method":
			r.Method = field.Value
		case ":path":
			r.RequestURI = field.Value
		case ":scheme":
			scheme = field.Value
		case ":authority":
			r.Host = field.Value
		case "connection", "proxy-connection", "transfer-encoding", "upgrade", "keep-alive":
			return "", errMalformed
		case "te":
			if field.Value != "trailers" {
				return "", errMalformed
			}
			r.Header["Te"] = []string{field.Value}
		default:
			if strings.HasPrefix(field.Name, ":") {
				return "", errMalformed
			}
			key := textproto.CanonicalMIMEHeaderKey(field.Name)
			if former := r.Header[key]; former != nil {
				r.Header[key] = append(former, field.Value)
				continue
			}
			values[0] = field.Value
			r.Header[key], values = values[:1:1], values[1:]
		}
	}
	if cookies := r.Header["Cookie"]; len(cookies) > 1 {
		r.Header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	return scheme, nil
}

// target finds out what a request is about.
func (s *stream) target(r *http.Request) (err error) {
	if r.Host == "" {
		r.Host = r.Header.Get("Host")
	}
	delete(r.Header, "Host")
	if r.Method == http.MethodConnect {
		r.URL, r.RequestURI = &url.URL{Host: r.Host}, r.Host
		return nil
	}
	r.URL, err = url.ParseRequestURI(r.RequestURI)
	return err
}

// length notes what a request says about its body.
func (s *stream) length(r *http.Request) error {
	if s.received {
		s.declared = 0
	}
	if text := r.Header.Get("Content-Length"); text != "" {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil || s.received && n != 0 {
			return errMalformed
		}
		s.declared = int64(n)
	}
	r.ContentLength = s.declared
	for _, list := range r.Header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			key := textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
			if !httpguts.ValidTrailerHeader(key) {
				continue
			}
			if r.Trailer == nil {
				r.Trailer = http.Header{}
			}
			r.Trailer[key] = nil
		}
	}
	delete(r.Header, "Trailer")
	return nil
}

// takeTrailer gives the request the trailers that it announced.
func (s *stream) takeTrailer(t http.Header) {
	for key, values := range t {
		if _, announced := s.request.Trailer[key]; announced {
			s.request.Trailer[key] = values
		}
	}
}

// serve runs the handler.
func (s *stream) serve() {
	w := newResponse(s)
	defer s.done(w)
	if s.tooLarge {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
		_, _ = w.Write([]byte("the request's headers are too large\n")) // a client that has gone needs no answer
	} else {
		s.conn.handler.ServeHTTP(w, s.request)
	}
	w.finish()
}

// done ends the stream when the handler has returned or panicked.
func (s *stream) done(w *response) {
	c := s.conn
	v := recover()
	if v != nil && v != http.ErrAbortHandler { //nolint:errorlint // net/http panics with this very value
		c.logf("http2: panic serving %v: %v\n%s", c.remote, v, debug.Stack())
	}
	if s.body != nil {
		_ = s.body.Close() // never fails
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.closed {
		switch {
		case !w.ended:
			c.resetStream(s.id, http2.ErrCodeInternal)
		case !s.received:
			c.resetStream(s.id, http2.ErrCodeNo) // the answer is complete: the rest of the request is not needed
		}
	}
	c.close(s, errHandlerDone)
	c.running--
	for c.running < int(c.server.MaxStreams) && len(c.waiting) > 0 {
		next := c.waiting[0]
		c.waiting = c.waiting[1:]
		if !next.closed {
			c.start(next)
		}
	}
	c.flush()
	w.release()
}

var errHandlerDone = errors.New("the handler has returned")
