package apiserver

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/audit"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/request"
)

// maxAudited bounds the bodies that are kept for the audit. A longer one is not recorded.
const maxAudited = 32 << 20

// beginAudit starts the record of a request, unless the policy doesn't want it.
func (s *Server) beginAudit(w *response, r *http.Request, info *request.Info) error {
	if s.cfg.Auditor == nil {
		return nil
	}
	record, err := s.cfg.Auditor.Begin(audit.RequestOf(r, w.attributes, w.auditID, w.received))
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	w.record, w.call.record, w.long = record, record, longRunning(info)
	wantsBody, wantsAnswer := record.Wants()
	w.call.keepBody, w.keepAnswer = wantsBody, wantsAnswer && !w.long
	return nil
}

// auditUnrecognized records a request that is refused before it is known who makes it.
func (s *Server) auditUnrecognized(w *response, r *http.Request, info *request.Info, refusal error) {
	w.attributes = attributesOf(info, nil)
	if s.beginAudit(w, r, info) != nil || w.record == nil {
		return
	}
	w.record.Annotate(w.call.takeAnnotations())
	status := statusOf(refusal)
	answer := audit.Answer{Code: int(status.Code), Status: &status}
	if w.keepAnswer {
		answer.JSON, _ = encodeObject(&status, negotiate.Media{}) // it is plain text
	}
	w.record.Started(answer)
	w.record = nil // the record has no other end
}

// auditDecision records why a request was let in or not.
func auditDecision(r *audit.Record, reason string, err error) {
	if r == nil {
		return
	}
	switch {
	case err == nil:
		r.Annotate(map[string]string{"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": reason})
	case apierrors.IsForbidden(err):
		r.Annotate(map[string]string{"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": reason})
	default:
		r.Annotate(map[string]string{"authorization.k8s.io/reason": "internal error"})
	}
}

// auditStart records that a response that lasts long begins.
func (w *response) auditStart() {
	if w.record != nil && w.long && !w.auditStarted {
		w.auditStarted = true
		w.record.Annotate(w.call.takeAnnotations())
		w.record.Started(audit.Answer{Code: w.code, Status: w.call.status})
	}
}

// endAudit records a request that has been served.
func (s *Server) endAudit(w *response) {
	if w.record == nil {
		return
	}
	c := w.call
	if c.body != nil {
		w.record.Object(nil, s.bodyJSON(c.body, c.bodyType))
	}
	w.record.Annotate(c.takeAnnotations())
	if !w.long {
		w.record.Annotate(c.spent.annotations(time.Since(w.received)))
	}
	w.auditStart()
	var answer []byte
	if w.keepAnswer {
		answer = s.answerJSON(w)
	}
	w.record.Complete(audit.Answer{Code: w.code, Status: c.status, JSON: answer})
}

// auditObject records the object that a request brings, as its version shows it.
func (c *call) auditObject(v *version, hub api.Object) error {
	if c.record == nil {
		return nil
	}
	var body []byte
	if c.keepBody {
		o, err := v.fromHub(hub)
		if err != nil {
			return err
		}
		if body, err = encodeObject(typed(o, v.gvk), negotiate.Media{}); err != nil {
			return fmt.Errorf("encode the %s for the audit: %w", v.gvk.Kind, err)
		}
	}
	c.record.Object(hub, body)
	c.body = nil
	return nil
}

// auditBody records what is posted to a subresource.
func (c *call) auditBody(o runtime.Object, kind schema.GroupVersionKind) error {
	if c.record == nil || !c.keepBody {
		return nil
	}
	body, err := encodeObject(typed(o, kind), negotiate.Media{})
	if err != nil {
		return fmt.Errorf("encode the %s for the audit: %w", kind.Kind, err)
	}
	c.record.Object(nil, body)
	c.body = nil
	return nil
}

// answerJSON is a response's body, if it was an object.
func (s *Server) answerJSON(w *response) []byte {
	body := w.answer
	if w.Header().Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil
		}
		if body, err = io.ReadAll(io.LimitReader(z, maxAudited)); err != nil {
			return nil
		}
	}
	return s.bodyJSON(body, w.Header().Get("Content-Type"))
}

// bodyJSON makes JSON of a body. YAML passes: package audit converts it.
func (s *Server) bodyJSON(body []byte, contentType string) []byte {
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case contentType == "" || err == nil && (strings.HasSuffix(media, "json") || strings.HasSuffix(media, "yaml")):
		return body
	case media != runtime.ContentTypeProtobuf:
		return nil
	}
	o, gvk, err := decoder(s.catalog.Load().scheme, negotiate.Protobuf, false).Decode(body, nil, nil)
	if err != nil {
		return nil
	}
	text, err := encodeObject(typed(o, *gvk), negotiate.Media{})
	if err != nil {
		return nil
	}
	return text
}

// keep remembers what is sent, for the audit.
func (w *response) keep(b []byte) {
	if len(w.answer)+len(b) > maxAudited {
		w.keepAnswer, w.answer = false, nil
		return
	}
	w.answer = append(w.answer, b...)
}
