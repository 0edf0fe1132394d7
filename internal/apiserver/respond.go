package apiserver

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/net"

	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/store"
)

// respond writes a complete response. Lists and large objects are compressed if the client can take it.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, code int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-cache, private")
	}
	writeWarnings(h, callOf(r.Context()))
	if len(body) >= compressFrom && acceptsGzip(r) {
		writeCompressed(w, code, body)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		// A client that went away is no error of the server's.
		_, _ = w.Write(body)
	}
}

// unknownSize is that of a body which is made while it is sent.
const unknownSize = -1

// beginBody sends the headers of a body.
func (s *Server) beginBody(w http.ResponseWriter, r *http.Request, contentType string, size int) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache, private")
	if size != unknownSize {
		h.Set("Content-Length", strconv.Itoa(size))
	}
	writeWarnings(h, callOf(r.Context()))
	w.WriteHeader(http.StatusOK)
}

func writeWarnings(h http.Header, c *call) {
	for _, text := range c.takeWarnings() {
		if value, err := net.NewWarningHeader(299, "-", text); err == nil {
			h.Add("Warning", value)
		}
	}
}

// fail answers with an error's Status.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if d := status.Details; d != nil && d.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(d.RetryAfterSeconds)))
	}
	if status.Code >= http.StatusInternalServerError {
		s.cfg.Logger.Warn("request failed", "method", r.Method, "uri", r.RequestURI, "code", status.Code, "error", err)
	}
	s.sendStatus(w, r, &status)
}

func (s *Server) sendStatus(w http.ResponseWriter, r *http.Request, status *metav1.Status) {
	callOf(r.Context()).status = status
	media, ok := negotiate.Output(r, negotiate.Plain)
	if !ok {
		media = negotiate.Media{Pretty: true}
	}
	body, err := encodeObject(status, media)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.respond(w, r, int(status.Code), media.Format.ContentType(), body)
}

// statusOf makes the Status of any error.
func statusOf(err error) metav1.Status {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.APIStatus(unknown(err))
	}
	status := known.Status()
	if status.Status == "" {
		status.Status = metav1.StatusFailure
	}
	if status.Code == 0 {
		status.Code = http.StatusInternalServerError
		if status.Status == metav1.StatusSuccess {
			status.Code = http.StatusOK
		}
	}
	status.Kind, status.APIVersion = "Status", "v1"
	return status
}

// unknown wraps an error that is none of the API's.
func unknown(err error) *apierrors.StatusError {
	status := metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
	switch {
	case errors.Is(err, store.ErrNoSpace):
		status.Message = "etcdserver: mvcc: database space exceeded: " + err.Error()
	case errors.Is(err, store.ErrFenced):
		status.Code, status.Reason = http.StatusConflict, metav1.StatusReasonConflict
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	case errors.Is(err, context.Canceled):
		return apierrors.NewTimeoutError("the request was cancelled", 0)
	}
	return &apierrors.StatusError{ErrStatus: status}
}

// errUnserved is the answer to a resource that a served group and version doesn't have.
var errUnserved = apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "404: Page Not Found", 0, false)

// errVersion is the answer to a version that a served group doesn't have.
var errVersion = &apierrors.StatusError{ErrStatus: metav1.Status{
	Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Details: &metav1.StatusDetails{},
	Message: "the server could not find the requested resource",
}}

// errMethod is the answer to a method that a resource doesn't have.
var errMethod = apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, "", schema.GroupResource{}, "", "405: Method Not Allowed", 0, false)
