package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"

	"clipper.dev/clipper/internal/apiserver/fairness"
	"clipper.dev/clipper/internal/apiserver/request"
	"clipper.dev/clipper/internal/store"
)

// Fairness decides which requests wait. Its Run keeps it to the cluster's configuration.
func (s *Server) Fairness() *fairness.Controller { return s.fairness }

// seat finds a request its seat, which it keeps until its ticket leaves: at the end, or, for a watch, once it has the initial state. Other
// requests that last long do little, and need none. A request that finds no seat has been answered.
func (s *Server) seat(w *response, r *http.Request, info *request.Info, u user.Info) bool {
	if longRunning(info) && info.Verb != "watch" {
		return true
	}
	outcome := s.fairness.Admit(&w.ticket, fairness.Request{User: u, Info: info, Query: r.URL.RawQuery})
	h := w.Header()
	h["X-Kubernetes-Pf-Flowschema-Uid"], h["X-Kubernetes-Pf-Prioritylevel-Uid"] = w.ticket.Matched()
	switch outcome {
	case fairness.Executing:
		return true
	case fairness.Queued:
		ctx, cancel := context.WithDeadline(r.Context(), w.received.Add(s.patience(r, info)))
		defer cancel()
		began := time.Now()
		seated := w.ticket.Wait(ctx)
		w.call.spent.add(inQueue, time.Since(began))
		if seated {
			return true
		}
	}
	w.terminated = serverComponent
	h.Set("Retry-After", strconv.FormatInt(w.ticket.RetryAfter(), 10))
	http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
	return false
}

// maxPatience bounds the time that a request spends in a queue, whatever time it has.
const maxPatience = time.Minute

// patience is how long a request may wait for its seat: a quarter of the time that it has in all.
func (s *Server) patience(r *http.Request, info *request.Info) time.Duration {
	limit := s.cfg.RequestTimeout
	if !longRunning(info) {
		limit = s.timeLimit(r)
	}
	return min(limit/4, maxPatience)
}

// sampled is how many objects of a kind are looked at to know their size.
const sampled = 8

// extent tells how many objects of a kind there are, and about how long each is.
func (s *Server) extent(info *request.Info) (count, bytes int64) {
	v, ok := s.catalog.Load().lookup(info.GroupVersionResource())
	if !ok || v.virtual() {
		return 0, 0
	}
	snapshot := v.table.Snapshot()
	count = int64(snapshot.Count(""))
	seen := int64(0)
	snapshot.Ascend("", "", func(e *store.Entry) bool {
		bytes += int64(len(e.Raw()))
		seen++
		return seen < sampled
	})
	return count, bytes / max(1, seen)
}

// longRunning tells which requests have no time limit.
func longRunning(info *request.Info) bool {
	if info.Verb == "watch" || info.Verb == "proxy" || !info.IsResource && strings.HasPrefix(info.Path, "/debug/pprof/") {
		return true
	}
	switch info.Subresource {
	case "log", "exec", "attach", "portforward", "proxy":
		return true
	}
	return false
}

// checkTimeout refuses a request whose timeout can't be read.
func checkTimeout(r *http.Request, info *request.Info) error {
	if !strings.Contains(r.URL.RawQuery, "timeout=") || longRunning(info) {
		return nil
	}
	asked := r.URL.Query().Get("timeout")
	if _, err := time.ParseDuration(asked); asked != "" && err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid timeout specified in the request URL - %v", err))
	}
	return nil
}

// timeLimit is the time that a request asks for, at most what the server allows.
func (s *Server) timeLimit(r *http.Request) time.Duration {
	limit := s.cfg.RequestTimeout
	if strings.Contains(r.URL.RawQuery, "timeout=") {
		if asked, err := time.ParseDuration(r.URL.Query().Get("timeout")); err == nil && asked > 0 && asked < limit {
			limit = asked
		}
	}
	return limit
}
