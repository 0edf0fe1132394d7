package h2

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Server serves connections that speak HTTP/2. Its zero value is ready; Configure puts it to use.
type Server struct {
	// MaxStreams is how many requests a connection may have under way; 250 if 0.
	MaxStreams uint32
	// MaxHeaderBytes bounds a request's headers; 1 MB if 0.
	MaxHeaderBytes uint32
	// IdleTimeout is how long a connection without requests is kept; 3 minutes if 0.
	IdleTimeout time.Duration
	// StallTimeout is how long a response waits for a client that opens no window for it; 1 minute if 0.
	StallTimeout time.Duration

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
}

const (
	defaultStreams     = 250
	defaultHeaderBytes = 1 << 20
	defaultIdleTimeout = 3 * time.Minute
	defaultStall       = time.Minute
)

// Configure lets a server hand its HTTP/2 connections to s, which finishes them when the server shuts down.
func (s *Server) Configure(hs *http.Server) {
	if s.MaxStreams == 0 {
		s.MaxStreams = defaultStreams
	}
	if s.MaxHeaderBytes == 0 {
		s.MaxHeaderBytes = defaultHeaderBytes
	}
	if s.IdleTimeout == 0 {
		s.IdleTimeout = defaultIdleTimeout
	}
	if s.StallTimeout == 0 {
		s.StallTimeout = defaultStall
	}
	s.conns = map[*conn]struct{}{}
	if hs.TLSNextProto == nil {
		hs.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	hs.TLSNextProto["h2"] = s.serve
	hs.RegisterOnShutdown(s.drain)
	if hs.TLSConfig != nil {
		// Records of full size from the start: what is sent is mostly long, or fits one packet anyway.
		hs.TLSConfig.DynamicRecordSizingDisabled = true
	}
}

// serve is called by net/http with a connection, and returns when the connection and its requests have ended.
func (s *Server) serve(hs *http.Server, tc *tls.Conn, h http.Handler) {
	state := tc.ConnectionState()
	if !modern(state) {
		_ = tc.Close()
		return
	}
	ctx := context.Background()
	// net/http passes the connection's context by a method of its handler.
	if b, ok := h.(interface{ BaseContext() context.Context }); ok {
		ctx = b.BaseContext()
	}
	c := newConn(ctx, s, hs, tc, state, h)
	if !s.add(c) {
		c.drain()
	}
	defer s.remove(c)
	c.serve()
}

// modern tells whether a connection's cipher is one that HTTP/2 allows (RFC 9113, appendix A).
func modern(state tls.ConnectionState) bool {
	if state.Version != tls.VersionTLS12 {
		return state.Version > tls.VersionTLS12
	}
	name := tls.CipherSuiteName(state.CipherSuite)
	return strings.HasPrefix(name, "TLS_ECDHE_") && (strings.Contains(name, "_GCM_") || strings.Contains(name, "_CHACHA20_"))
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return !s.draining
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// drain lets every connection finish what it has begun and take nothing new.
func (s *Server) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for c := range s.conns {
		c.drain()
	}
}
