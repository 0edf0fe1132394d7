package apiserver

import (
	"context"
	"net"
	"net/http"
	"time"
)

// The levels of an audit that say which bodies it wants.
const (
	auditNone     = "None"
	auditRequests = "Request"
	auditAnswers  = "RequestResponse"
)

// maxAudited bounds the bodies that are kept for the audit. Streams are longer: what is beyond is not recorded.
const maxAudited = 4 << 20

// beginAudit asks how much of a request is to be recorded.
func (s *Server) beginAudit(w *response, c *call) {
	if s.cfg.Auditor == nil {
		return
	}
	w.level = s.cfg.Auditor.Level(w.attributes)
	c.keepBody = w.level == auditRequests || w.level == auditAnswers
}

// endAudit records a request that has been served.
func (s *Server) endAudit(w *response, r *http.Request) {
	if s.cfg.Auditor == nil || w.level == "" || w.level == auditNone {
		return
	}
	c := w.call
	c.mu.Lock()
	annotations := c.annotations
	c.mu.Unlock()
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	s.cfg.Auditor.Record(context.WithoutCancel(r.Context()), AuditRecord{
		Level: w.level, ID: w.auditID, Attributes: w.attributes, RequestURI: r.RequestURI, SourceIPs: []string{host}, UserAgent: r.UserAgent(),
		ImpersonatedBy: w.impersonator, Code: w.code, Received: w.received, Done: time.Now(), Annotations: annotations,
		Request: c.body, Answer: w.answer,
	})
}
