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
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/apiserver/fairness"
	"clipper.dev/clipper/internal/apiserver/request"
)

// A route is a handler outside the API's own paths.
type route struct {
	pattern string
	handler http.Handler
}

// Handler serves the API. Its listener must do TLS with HTTP/2: see TLS in the package cluster.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

// serveHTTP takes a request through everything that comes before its operation.
func (s *Server) serveHTTP(rw http.ResponseWriter, r *http.Request) {
	defer s.inFlight.enter()()
	w := &response{ResponseWriter: rw, received: time.Now()}
	info := request.Of(r)
	defer s.finish(w, r, info)
	w.auditID = r.Header.Get("Audit-Id")
	if w.auditID == "" || len(w.auditID) > 64 {
		w.auditID = newAuditID()
	}
	w.Header().Set("Audit-Id", w.auditID)
	c := &call{agent: r.UserAgent()}
	w.call, c.ticket = c, &w.ticket
	r = r.WithContext(withCall(r.Context(), c))
	u, err := s.authenticate(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	c.user = userOf(u)
	w.attributes = attributesOf(info, u)
	s.beginAudit(w, c)
	if !s.seat(w, r, info, u) {
		return
	}
	defer w.ticket.Leave()
	if err := s.authorize(r.Context(), w.attributes); err != nil {
		if apierrors.IsForbidden(err) {
			w.Header().Set("X-Content-Type-Options", "nosniff") // the message repeats what the client sent
		}
		s.fail(w, r, err)
		return
	}
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

// authenticate finds out who asks, and for whom.
func (s *Server) authenticate(w *response, r *http.Request) (user.Info, error) {
	sec := s.security.Load()
	if sec.Authenticator == nil {
		return nil, apierrors.NewUnauthorized("Unauthorized")
	}
	answer, ok, err := sec.Authenticator.AuthenticateRequest(r)
	if err != nil || !ok {
		if err != nil {
			s.cfg.Logger.Debug("authentication failed", "uri", r.RequestURI, "error", err)
		}
		s.metrics.authentication("failure")
		return nil, apierrors.NewUnauthorized("Unauthorized")
	}
	s.metrics.authentication("success")
	// Tokens go no further: proxies pass headers on.
	r.Header.Del("Authorization")
	return s.impersonate(sec, w, r, answer)
}

func (s *Server) impersonate(sec *security, w *response, r *http.Request, answer *authenticator.Response) (user.Info, error) {
	if sec.Impersonate == nil || !impersonates(r.Header) {
		return answer.User, nil
	}
	u, err := sec.Impersonate(r.Context(), r, answer.User)
	if err != nil {
		return nil, err
	}
	w.impersonator = answer.User
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
			panic(v)
		}
		s.cfg.Logger.Error("request handler panicked", "method", r.Method, "uri", r.RequestURI, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		if !w.wrote {
			s.fail(w, r, apierrors.NewInternalError(errors.New("This request caused apiserver to panic. Look in the logs for details."))) //nolint:staticcheck // upstream's words
		}
	}
	s.metrics.request(info, s.knows(info), strings.Contains(r.URL.RawQuery, "dryRun=All"), w)
	s.endAudit(w, r)
}

// A response notes what happens to it.
type response struct {
	http.ResponseWriter
	received     time.Time
	code         int
	bytes        int64
	wrote        bool
	hijacked     bool
	auditID      string
	attributes   authorizer.AttributesRecord
	impersonator user.Info
	call         *call
	ticket       fairness.Ticket
	level        string // of the audit
	answer       []byte // as sent, if the audit wants it
}

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(code int) {
	if w.wrote {
		return
	}
	w.wrote, w.code = true, code
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	if w.level == auditAnswers && len(w.answer)+n <= maxAudited {
		w.answer = append(w.answer, b[:n]...)
	}
	return n, err
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError serves http.ResponseController.
func (w *response) FlushError() error { return http.NewResponseController(w.ResponseWriter).Flush() }

// Hijack implements http.Hijacker.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.wrote, w.hijacked, w.code = true, true, http.StatusSwitchingProtocols
	}
	return conn, buf, err
}

// Unwrap serves http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
