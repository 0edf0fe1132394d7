package apiserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/apiserver/request"
)

// dispatch finds the operation that a request asks for.
func (s *Server) dispatch(w *response, r *http.Request, info *request.Info) {
	if s.serveRemote(w, r, info) {
		return
	}
	if !info.IsResource {
		s.servePath(w, r)
		return
	}
	v, ok := s.catalog.Load().lookup(info.GroupVersionResource())
	if !ok {
		if _, served := s.catalog.Load().groupVersion(info.GroupVersion()); served {
			s.fail(w, r, errUnserved)
			return
		}
		http.NotFound(w, r)
		return
	}
	if v.api.Deprecated != "" {
		c := callOf(r.Context())
		c.warn(v.api.Deprecated)
		c.annotate(map[string]string{"k8s.io/deprecated": "true"})
	}
	if info.Namespace != "" && !v.row.Namespaced && info.Resource != "namespaces" {
		s.fail(w, r, errUnserved)
		return
	}
	if !longRunning(info) {
		ctx, cancel := s.boundTime(r)
		defer cancel()
		r = r.WithContext(ctx)
	}
	err := s.serveResource(w, r, v, info)
	if err == nil || errors.Is(err, errStreamed) {
		return
	}
	if r.Context().Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		err = apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	}
	s.fail(w, r, err)
}

// boundTime gives a request the time that it asks for, at most what the server allows.
func (s *Server) boundTime(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), s.timeLimit(r))
}

// serveResource runs one operation on a resource. The error it returns has not been sent.
func (s *Server) serveResource(w *response, r *http.Request, v *version, info *request.Info) error {
	t := target{v: v, sub: info.Subresource, namespace: info.Namespace, name: info.Name}
	if !v.row.Namespaced {
		t.namespace = ""
	} else if err := acrossNamespaces(info); err != nil {
		return err
	}
	if v.text() && t.sub != "scale" {
		if err := textOnly(r, info.Verb); err != nil {
			return err
		}
	}
	if t.sub != "" {
		return s.serveSubresource(w, r, t, info)
	}
	if !slices.Contains(v.verbs(), info.Verb) || misplaced(info) {
		return errMethod
	}
	if v.virtual() && v.row.Observe != nil {
		return s.serveObserved(w, r, t, info)
	}
	if v.virtual() {
		return s.serveVirtual(w, r, t)
	}
	switch info.Verb {
	case "get":
		return s.serveGet(w, r, t)
	case "list", "watch":
		return s.serveList(w, r, v, info)
	case "create":
		return s.serveCreate(w, r, t)
	case "update":
		return s.serveUpdate(w, r, t)
	case "patch":
		return s.servePatch(w, r, t)
	case "delete":
		return s.serveDelete(w, r, t)
	case "deletecollection":
		return s.serveDeleteCollection(w, r, v, info)
	}
	return errMethod
}

// acrossNamespaces refuses what a namespaced resource doesn't serve outside a namespace: all but list and watch.
func acrossNamespaces(info *request.Info) error {
	switch {
	case info.Namespace != "" || info.Verb == "list" || info.Verb == "watch":
		return nil
	case info.Name != "":
		return errUnserved
	}
	return errMethod
}

// misplaced tells whether a request has a name that its verb can't have, or lacks one that it needs.
func misplaced(info *request.Info) bool {
	switch info.Verb {
	case "create":
		return info.Name != ""
	case "update", "patch":
		return info.Name == ""
	}
	return false
}

// servePath serves what lies outside the resources: discovery, health, metrics, version and what Handle added.
func (s *Server) servePath(w *response, r *http.Request) {
	path := r.URL.Path
	switch {
	case path == "/" || path == "":
		s.servePaths(w, r)
	case path == "/version" || path == "/version/":
		s.serveVersion(w, r)
	case path == "/metrics":
		s.metrics.handler.ServeHTTP(w, r)
	case path == "/api" || path == "/apis" || strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/apis/"):
		s.serveDiscovery(w, r, strings.TrimSuffix(path, "/"))
	case s.health.serves(path):
		s.health.serve(w, r)
	default:
		s.serveRoute(w, r)
	}
}

func (s *Server) serveRoute(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	routes := s.routes
	s.mu.Unlock()
	for _, route := range routes {
		prefix := strings.HasSuffix(route.pattern, "/") && strings.HasPrefix(r.URL.Path, route.pattern)
		if prefix || r.URL.Path == strings.TrimSuffix(route.pattern, "/") {
			route.handler.ServeHTTP(w, r)
			return
		}
	}
	http.NotFound(w, r)
}
