package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	windowBytes     = 256 << 10 // of a request's body
	connWindowBytes = 1 << 20
	maxReadFrame    = 64 << 10
	initialWindow   = 65535 // before anybody says otherwise
	maxWindow       = 1<<31 - 1

	maxSettings = 100 // in a frame: each that changes the window looks at every stream

	maxFree = 8 // goroutines that a connection keeps for its next streams

	greetTimeout  = 10 * time.Second
	lingerTimeout = 250 * time.Millisecond
)

// conn is one connection. One goroutine reads it; the handlers write to it.
type conn struct {
	server  *Server
	http    *http.Server
	handler http.Handler
	tls     *tls.Conn
	network *corkable // nil if the listener is a foreign one
	state   tls.ConnectionState
	remote  string
	ctx     context.Context
	cancel  context.CancelFunc
	framer  *http2.Framer  // for reading only
	group   sync.WaitGroup // of handlers and of writers that help out
	idle    *time.Timer

	deadlineSet time.Time // when the time for writes was set; the writer's

	gathering sync.Mutex
	gather    gatherer

	mu       sync.Mutex
	changed  sync.Cond // windows opened, room was made, a stream or the connection ended
	out      []byte    // frames to be sent
	writing  bool      // somebody sends, and will send what is put down meanwhile
	helped   bool      // a goroutine is on its way to send
	encoder  *hpack.Encoder
	block    bytes.Buffer // what encoder writes to
	err      error        // why the connection has ended
	streams  map[uint32]*stream
	resets   [64]uint32 // streams that were reset lately: what still comes for them is no error
	reset    int
	lastID   uint32
	running  int       // handlers
	waiting  []*stream // opened, but without a handler yet
	dropped  int       // of those, how many ended without one since the last handler began
	fields   int64     // bytes of the open streams' headers
	free     int       // goroutines that wait at next
	next     chan *stream
	draining bool
	idleFrom time.Time

	maxFrame      uint32 // the client's
	initialWindow int64  // the client's, of a new stream
	sendWindow    int64
	recvWindow    int64
	uncredited    int64 // taken by handlers, not yet told to the client
}

func newConn(ctx context.Context, s *Server, hs *http.Server, tc *tls.Conn, state tls.ConnectionState, h http.Handler) *conn {
	c := &conn{
		server: s, http: hs, handler: h, tls: tc, state: state, remote: tc.RemoteAddr().String(),
		streams: map[uint32]*stream{}, maxFrame: 16 << 10, initialWindow: initialWindow, sendWindow: initialWindow, recvWindow: connWindowBytes,
		idleFrom: time.Now(), next: make(chan *stream, maxFree),
	}
	c.network, _ = tc.NetConn().(*corkable)
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.changed.L = &c.mu
	c.encoder = hpack.NewEncoder(&c.block)
	c.framer = http2.NewFramer(io.Discard, tc)
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(maxReadFrame)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.MaxHeaderListSize = s.MaxHeaderBytes
	return c
}

// serve reads until the connection ends, and returns when its handlers have.
func (c *conn) serve() {
	err := c.greet()
	if err == nil {
		c.mu.Lock()
		c.idle = time.AfterFunc(c.server.IdleTimeout, c.checkIdle)
		c.mu.Unlock()
		defer c.idle.Stop()
		err = c.read()
	}
	c.say(err)
	c.end(err)
	c.group.Wait()
}

// greet exchanges settings.
func (c *conn) greet() error {
	c.mu.Lock()
	settings := []http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: c.server.MaxStreams}, {ID: http2.SettingInitialWindowSize, Val: windowBytes},
		{ID: http2.SettingMaxFrameSize, Val: maxReadFrame}, {ID: http2.SettingMaxHeaderListSize, Val: c.server.MaxHeaderBytes},
	}
	var payload []byte
	for _, s := range settings {
		payload = append(payload, byte(s.ID>>8), byte(s.ID), byte(s.Val>>24), byte(s.Val>>16), byte(s.Val>>8), byte(s.Val))
	}
	c.control(http2.FrameSettings, 0, 0, payload...)
	c.controlUint32(http2.FrameWindowUpdate, 0, connWindowBytes-initialWindow)
	c.flush()
	c.mu.Unlock()
	if err := c.tls.SetReadDeadline(time.Now().Add(greetTimeout)); err != nil {
		return err
	}
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.tls, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	f, err := c.framer.ReadFrame()
	if err != nil {
		return err
	}
	if s, ok := f.(*http2.SettingsFrame); !ok || s.IsAck() {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return errors.Join(c.process(f), c.tls.SetReadDeadline(time.Time{}))
}

func (c *conn) read() error {
	for {
		f, err := c.framer.ReadFrame()
		if err == nil {
			err = c.process(f)
		}
		var broken http2.StreamError
		if errors.As(err, &broken) {
			c.refuse(broken)
			continue
		}
		if err != nil {
			return err
		}
	}
}

// process acts on one frame. A StreamError that it returns ends the stream, any other error the connection.
func (c *conn) process(f http2.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		return c.onHeaders(f)
	case *http2.DataFrame:
		return c.onData(f)
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.RSTStreamFrame:
		s := c.streams[f.StreamID]
		if s == nil {
			return c.opened(f.StreamID)
		}
		c.close(s, http2.StreamError{StreamID: f.StreamID, Code: f.ErrCode, Cause: errors.New("the client reset the stream")})
	case *http2.PingFrame:
		if !f.IsAck() {
			c.control(http2.FramePing, http2.FlagPingAck, 0, f.Data[:]...)
			c.flushApart()
		}
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
		}
	}
	return nil
}

// flushApart lets what has been put down be sent without making the reader wait for the client.
func (c *conn) flushApart() {
	if c.writing || c.helped || c.err != nil {
		return
	}
	c.helped = true
	c.group.Go(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.helped = false
		c.flush()
	})
}

func (c *conn) onSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	if f.NumSettings() > maxSettings {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	if err := f.ForeachSetting(c.set); err != nil {
		return err
	}
	c.control(http2.FrameSettings, http2.FlagSettingsAck, 0)
	c.changed.Broadcast()
	c.flushApart()
	return nil
}

func (c *conn) set(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.encoder.SetMaxDynamicTableSize(min(s.Val, 4096))
	case http2.SettingMaxFrameSize:
		c.maxFrame = min(s.Val, blockBytes)
	case http2.SettingInitialWindowSize:
		more := int64(s.Val) - c.initialWindow
		c.initialWindow = int64(s.Val)
		for _, st := range c.streams {
			if st.sendWindow += more; st.sendWindow > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
		}
	}
	return nil
}

func (c *conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if c.sendWindow += int64(f.Increment); c.sendWindow > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.changed.Broadcast()
		return nil
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return c.opened(f.StreamID)
	}
	if s.sendWindow += int64(f.Increment); s.sendWindow > maxWindow {
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	c.changed.Broadcast()
	return nil
}

func (c *conn) onData(f *http2.DataFrame) error {
	size := int64(f.Length)
	if size > c.recvWindow {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	c.recvWindow -= size
	s := c.streams[f.StreamID]
	if s == nil || s.received {
		c.creditConn(size)
		if err := c.opened(f.StreamID); err != nil || c.draining || slices.Contains(c.resets[:], f.StreamID) {
			return err
		}
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeStreamClosed}
	}
	if size > s.recvWindow {
		c.creditConn(size)
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	s.recvWindow -= size
	data := f.Data()
	if s.got += int64(len(data)); s.declared >= 0 && s.got > s.declared {
		c.creditConn(size)
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol, Cause: errors.New("the body is longer than declared")}
	}
	unused := size - int64(len(data)) // padding
	if len(data) > 0 && !s.body.put(data, s.declared) {
		unused = size
	}
	c.creditLocked(s, unused)
	if f.StreamEnded() {
		return c.bodyEnded(s)
	}
	return nil
}

// bodyEnded notes that the client has sent everything.
func (c *conn) bodyEnded(s *stream) error {
	s.received = true
	if s.declared >= 0 && s.got != s.declared {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol, Cause: errors.New("the body is shorter than declared")}
	}
	if s.body != nil {
		s.body.end(io.EOF)
	}
	return nil
}

// opened refuses frames of a stream that has never been opened.
func (c *conn) opened(id uint32) error {
	if id > c.lastID && !c.draining {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

// credit lets the client send n bytes more, for those that a handler has taken.
func (c *conn) credit(s *stream, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.creditLocked(s, int64(n))
	c.flush()
}

func (c *conn) creditLocked(s *stream, n int64) {
	c.creditConn(n)
	if s.received || s.closed {
		return
	}
	if s.uncredited += n; s.uncredited >= windowBytes/4 {
		c.controlUint32(http2.FrameWindowUpdate, s.id, uint32(s.uncredited))
		s.recvWindow += s.uncredited
		s.uncredited = 0
	}
}

func (c *conn) creditConn(n int64) {
	if c.uncredited += n; c.uncredited >= connWindowBytes/4 {
		c.controlUint32(http2.FrameWindowUpdate, 0, uint32(c.uncredited))
		c.recvWindow += c.uncredited
		c.uncredited = 0
		c.flushApart()
	}
}

// refuse ends a stream, or the attempt to open one, with an error.
func (c *conn) refuse(e http2.StreamError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resetStream(e.StreamID, e.Code)
	if s := c.streams[e.StreamID]; s != nil {
		c.close(s, e)
	} else if e.StreamID > c.lastID {
		c.lastID = e.StreamID
	}
	c.flushApart()
}

func (c *conn) resetStream(id uint32, code http2.ErrCode) {
	c.resets[c.reset] = id
	c.reset = (c.reset + 1) % len(c.resets)
	c.controlUint32(http2.FrameRSTStream, id, uint32(code))
}

// close forgets a stream. Its handler, if it still runs, learns of it.
func (c *conn) close(s *stream, reason error) {
	if s.closed {
		return
	}
	s.closed, s.reason = true, reason
	c.forget(s)
	if s.body != nil {
		s.body.end(reason)
	}
	if s.cancel != nil {
		s.cancel()
	}
	c.changed.Broadcast()
}

// forget makes room for another stream: both sides have sent everything.
func (c *conn) forget(s *stream) {
	if _, there := c.streams[s.id]; !there {
		return
	}
	delete(c.streams, s.id)
	c.fields -= s.fields
	if len(c.streams) == 0 {
		c.idleFrom = time.Now()
		if c.draining {
			c.linger()
		}
	}
}

// checkIdle ends a connection that has had nothing to do for long.
func (c *conn) checkIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	rest := c.server.IdleTimeout
	if len(c.streams) == 0 {
		rest -= time.Since(c.idleFrom)
	}
	if rest > 0 {
		c.idle.Reset(rest)
		return
	}
	c.drainLocked()
}

// drain finishes what has begun and takes nothing new.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drainLocked()
}

func (c *conn) drainLocked() {
	if c.draining || c.err != nil {
		return
	}
	c.draining = true
	c.goAway(http2.ErrCodeNo)
	c.flushApart()
	if len(c.streams) == 0 {
		c.linger()
	}
}

func (c *conn) goAway(code http2.ErrCode) {
	id := c.lastID
	c.control(http2.FrameGoAway, 0, 0, byte(id>>24), byte(id>>16), byte(id>>8), byte(id), byte(code>>24), byte(code>>16), byte(code>>8), byte(code))
}

// linger ends the reading soon, but not before the client could read what it was told.
func (c *conn) linger() {
	_ = c.tls.SetReadDeadline(time.Now().Add(lingerTimeout)) // a connection that has ended already needs none
}

// say tells the client why the connection ends, if it is the client's fault.
func (c *conn) say(err error) {
	code := http2.ErrCodeNo
	var fault http2.ConnectionError
	switch {
	case errors.As(err, &fault):
		code = http2.ErrCode(fault)
	case errors.Is(err, http2.ErrFrameTooLarge):
		code = http2.ErrCodeFrameSize
	default:
		return
	}
	c.mu.Lock()
	c.goAway(code)
	c.flush()
	c.mu.Unlock()
	// What is not read would make the system reset the connection, and the client might not learn the reason.
	c.linger()
	_, _ = io.Copy(io.Discard, io.LimitReader(c.tls, connWindowBytes)) // ends by the deadline
}

// end closes the connection and tells everybody who has to do with it.
func (c *conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The last answers of a connection that is to end may still be on their way.
	for c.draining && c.err == nil && (c.writing || len(c.out) > 0) {
		if !c.writing {
			c.flush()
			continue
		}
		c.changed.Wait()
	}
	c.kill(fmt.Errorf("%w: %w", errConnClosed, err))
}

// kill ends the connection at once. The caller holds c.mu.
func (c *conn) kill(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	for _, s := range c.streams {
		c.close(s, err)
	}
	c.waiting = nil
	close(c.next)
	c.cancel()
	c.changed.Broadcast()
	// Closing says goodbye, for which it may wait: not under the lock.
	c.group.Go(func() { _ = c.tls.Close() })
}

func (c *conn) logf(format string, args ...any) {
	if c.http.ErrorLog != nil {
		c.http.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}
