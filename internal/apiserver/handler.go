package apiserver

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/apiserver/audit"
	"clipper.dev/clipper/internal/apiserver/fairness"
	"clipper.dev/clipper/internal/apiserver/request"
	"clipper.dev/clipper/internal/authn"
)

// A route is a handler outside the API's own paths.
type route struct {
	pattern string
	handler http.Handler
	types   []string // that it answers in; none is any
}

// Handler serves the API. Its listener must do TLS with HTTP/2: see TLS in the package cluster.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

// serveHTTP takes a request through everything that comes before its operation.
func (s *Server) serveHTTP(rw http.ResponseWriter, r *http.Request) {
	defer s.inFlight.enter()()
	w := &response{ResponseWriter: rw, received: time.Now()}
	info := request.Of(r)
	defer s.finish(w, r, info)
	s.bound(w, r, info)
	w.auditID = r.Header.Get("Audit-Id")
	if w.auditID == "" || len(w.auditID) > 64 {
		w.auditID = newAuditID()
	}
	w.Header().Set("Audit-Id", w.auditID)
	c := &call{agent: r.UserAgent(), verb: info.Verb}
	w.call, c.ticket = c, &w.ticket
	if info.Incomplete {
		message := fmt.Sprintf("Internal Server Error: %q: failed to create RequestInfo: unable to determine kind and namespace from url, %v", r.RequestURI, r.URL)
		http.Error(w, htmlSafe.Replace(message), http.StatusInternalServerError)
		return
	}
	r = r.WithContext(authn.WithNotes(withCall(r.Context(), c), c))
	if err := checkTimeout(r, info); err != nil {
		s.auditUnrecognized(w, r, info, err)
		s.fail(w, r, err)
		return
	}
	u, err := s.recognize(w, r, info)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	at := time.Now()
	if !s.seat(w, r, info, u) {
		return
	}
	defer w.ticket.Leave()
	at = s.metrics.passed(queueing, at)
	reason, err := s.decide(r.Context(), w.attributes)
	c.spent.add(inAuthorization, time.Since(at))
	auditDecision(w.record, reason, err)
	if err != nil {
		if !apierrors.IsForbidden(err) {
			s.cfg.Logger.Warn("authorization failed", "method", r.Method, "uri", r.RequestURI, "error", err)
			http.Error(w, htmlSafe.Replace(fmt.Sprintf("Internal Server Error: %q: %v", r.RequestURI, err)), http.StatusInternalServerError)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff") // the message repeats what the client sent
		s.fail(w, r, err)
		return
	}
	s.metrics.passed(authorizing, at)
	s.dispatch(w, r, info)
}

// newAuditID names a request. Nobody has to be kept from guessing it.
func newAuditID() string {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4, RFC 9562
	return id.String()
}

// recognize finds out who asks, and for whom, and begins the request's record.
func (s *Server) recognize(w *response, r *http.Request, info *request.Info) (user.Info, error) {
	u, err := s.authenticate(r)
	at := s.metrics.passed(authenticating, w.received)
	w.call.spent.add(inAuthentication, at.Sub(w.received))
	if err != nil {
		s.auditUnrecognized(w, r, info, err)
		return nil, err
	}
	w.attributes = attributesOf(info, u)
	if err := s.beginAudit(w, r, info); err != nil {
		return nil, err
	}
	at = s.metrics.passed(auditing, at)
	if u, err = s.impersonate(w, r, u); err != nil {
		return nil, err
	}
	s.metrics.passed(impersonating, at)
	w.attributes.User, w.call.user = u, userOf(u)
	return u, nil
}

// authenticate finds out who asks.
func (s *Server) authenticate(r *http.Request) (user.Info, error) {
	if u, ok := insider(r.Context()); ok {
		return infoOf(u), nil
	}
	sec := s.security.Load()
	if sec.Authenticator == nil {
		return nil, apierrors.NewUnauthorized("Unauthorized")
	}
	began := time.Now()
	answer, ok, err := sec.Authenticator.AuthenticateRequest(r)
	took := time.Since(began)
	if err != nil || !ok {
		if err != nil {
			s.cfg.Logger.Debug("authentication failed", "uri", r.RequestURI, "error", err)
		}
		s.metrics.unauthenticated(err, took)
		return nil, apierrors.NewUnauthorized("Unauthorized")
	}
	s.metrics.authenticated(answer.User.GetName(), took)
	// Tokens go no further: proxies pass headers on.
	r.Header.Del("Authorization")
	return answer.User, nil
}

// impersonate finds out for whom.
func (s *Server) impersonate(w *response, r *http.Request, requestor user.Info) (user.Info, error) {
	sec := s.security.Load()
	if sec.Impersonate == nil || !impersonates(r.Header) {
		return requestor, nil
	}
	began := time.Now()
	u, constraint, err := sec.Impersonate(r.Context(), r, w.attributes)
	w.call.spent.add(inImpersonation, time.Since(began))
	if err != nil {
		w.Header().Set("X-Content-Type-Options", "nosniff") // the message repeats what the client sent
		return nil, err
	}
	if u == nil {
		return requestor, nil
	}
	w.record.Impersonated(u, constraint)
	for name := range r.Header {
		if strings.HasPrefix(name, "Impersonate-") {
			delete(r.Header, name)
		}
	}
	return u, nil
}

func impersonates(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, "Impersonate-") {
			return true
		}
	}
	return false
}

// finish answers for a handler that panicked, counts the request and tells the auditor.
func (s *Server) finish(w *response, r *http.Request, info *request.Info) {
	if v := recover(); v != nil {
		if v == http.ErrAbortHandler { //nolint:errorlint // net/http panics with this very value
			s.metrics.requests.aborted(r, info, s.knows(info))
			panic(v)
		}
		w.terminated = serverComponent
		w.record.Panicked(v)
		w.record = nil
		s.cfg.Logger.Error("request handler panicked", "method", r.Method, "uri", r.RequestURI, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		if !w.wrote {
			s.fail(w, r, apierrors.NewInternalError(errors.New("This request caused apiserver to panic. Look in the logs for details."))) //nolint:staticcheck // upstream's words
		}
	}
	s.metrics.request(r, info, w.terminated != "" && s.knows(info), w)
	s.endAudit(w)
}

// A response notes what happens to it.
type response struct {
	http.ResponseWriter
	received   time.Time
	code       int
	bytes      int64
	wrote      bool
	hijacked   bool
	terminated string      // the component that gave it up to protect the server; "" is none
	sort       requestSort // what it is counted as; the zero value is not at all
	rolling    deadliner
	auditID    string
	attributes authorizer.AttributesRecord
	call       *call
	ticket     fairness.Ticket

	record       *audit.Record // nil unless the request is audited
	long         bool
	auditStarted bool
	keepAnswer   bool
	answer       []byte // as sent, if the audit wants it
}

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(code int) {
	if w.wrote {
		return
	}
	w.wrote, w.code = true, code
	w.auditStart()
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.timedWrite(b)
	w.bytes += int64(n)
	if w.keepAnswer {
		w.keep(b[:n])
	}
	return n, err
}

func (w *response) timedWrite(b []byte) (int, error) {
	w.roll()
	if w.record == nil {
		return w.ResponseWriter.Write(b)
	}
	began := time.Now()
	defer func() { w.call.spent.add(inResponse, time.Since(began)) }()
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError serves http.ResponseController.
func (w *response) FlushError() error {
	w.roll()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.wrote, w.hijacked, w.code = true, true, http.StatusSwitchingProtocols
		w.auditStart()
	}
	return conn, buf, err
}

// Unwrap serves http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
