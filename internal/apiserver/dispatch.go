package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation/path"

	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/request"
)

// dispatch finds the operation that a request asks for.
func (s *Server) dispatch(w *response, r *http.Request, info *request.Info) {
	w.Header().Set("Cache-Control", "no-cache, private")
	if s.serveRemote(w, r, info) {
		return
	}
	if !info.IsResource {
		s.servePath(w, r)
		return
	}
	v, ok := s.catalog.Load().lookup(info.GroupVersionResource())
	if !ok || info.Verb == "proxy" {
		if gv, served := s.catalog.Load().groupVersion(info.GroupVersion()); served && !gv.custom() {
			s.fail(w, r, errUnserved)
			return
		}
		http.NotFound(w, r)
		return
	}
	if v.text() && outOfScope(v, info) {
		http.NotFound(w, r)
		return
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
		w.terminated = serverComponent
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
	if v.text() {
		return s.serveCustom(w, r, t, info)
	}
	if !v.row.Namespaced {
		t.namespace = ""
	} else if err := acrossNamespaces(info); err != nil {
		return err
	}
	if !negotiate.Routed(r.Header.Get("Accept")) && !slices.Contains(v.row.Connect, t.sub) {
		return negotiate.Unrouted(info.Verb == "list" || info.Verb == "watch")
	}
	if err := checkPathName(info.Name); err != nil {
		return err
	}
	if t.sub != "" {
		return s.serveSubresource(w, r, t, info)
	}
	if r.Method == http.MethodHead {
		return errMethod
	}
	if v.virtual() && v.row.Observe == nil && info.Name != "" {
		return errUnserved
	}
	if !slices.Contains(v.verbs(), info.Verb) || misplaced(info) {
		return errMethod
	}
	if info.Verb == "patch" && !s.routesPatch(r) {
		return negotiate.UnroutedBody()
	}
	w.reaches(r, info, false)
	s.noteDeprecated(r, v, info)
	if v.virtual() && v.row.Observe != nil {
		return s.serveObserved(w, r, t, info)
	}
	if v.virtual() {
		return s.serveVirtual(w, r, t)
	}
	return s.serveVerb(w, r, t, info)
}

// serveVerb runs what a verb means for stored objects.
func (s *Server) serveVerb(w *response, r *http.Request, t target, info *request.Info) error {
	switch info.Verb {
	case "get":
		return s.serveGet(w, r, t)
	case "list", "watch":
		return s.serveList(w, r, t.v, info)
	case "create":
		return s.serveCreate(w, r, t)
	case "update":
		return s.serveUpdate(w, r, t)
	case "patch":
		return s.servePatch(w, r, t)
	case "delete":
		return s.serveDelete(w, r, t)
	case "deletecollection":
		return s.serveDeleteCollection(w, r, t.v, info)
	}
	return errMethod
}

// noteDeprecated tells the client, the audit and the metrics of a version that will go.
func (s *Server) noteDeprecated(r *http.Request, v *version, info *request.Info) {
	if v.api.Deprecated == "" {
		return
	}
	c := callOf(r.Context())
	c.warn(v.api.Deprecated)
	c.annotate(map[string]string{"k8s.io/deprecated": "true"})
	if release := removedRelease(v.api.Deprecated); release != "" {
		c.annotate(map[string]string{"k8s.io/removed-release": release})
	}
	s.metrics.deprecatedUse(v, info.Subresource)
}

// checkPathName refuses a name that can't be a part of a path.
func checkPathName(name string) error {
	if problems := nameProblems(name); problems != "" {
		return apierrors.NewBadRequest(fmt.Sprintf("Name parameter invalid: %q: %s", name, problems))
	}
	return nil
}

// nameProblems tells why a name can't be a part of a path; "" if it can.
func nameProblems(name string) string {
	if name != "." && name != ".." && !strings.ContainsAny(name, "/%") {
		return ""
	}
	return strings.Join(path.IsValidPathSegmentName(name), ";")
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
	at := r.URL.Path
	switch {
	case at == "/" || at == "":
		s.servePaths(w, r)
	case at == "/version" || at == "/version/":
		s.serveVersion(w, r)
	case at == "/metrics":
		s.metrics.handler.ServeHTTP(w, r)
	case at == "/metrics/slis":
		s.health.slis.ServeHTTP(w, r)
	case at == "/statusz":
		w.reachesPath(r, requestSort{component: serverComponent, resource: "statusz"})
		s.statusz().serve(s, w, r)
	case at == "/flagz":
		w.reachesPath(r, requestSort{component: serverComponent, resource: "flagz"})
		s.flagz().serve(s, w, r)
	case at == "/api" || at == "/apis" || strings.HasPrefix(at, "/api/") || strings.HasPrefix(at, "/apis/"):
		s.serveDiscovery(w, r, strings.TrimSuffix(at, "/"))
	case s.health.serves(at):
		if !strings.Contains(at[1:], "/") {
			w.reachesPath(r, requestSort{sub: at})
		}
		s.health.serve(w, r)
	default:
		s.serveRoute(w, r)
	}
}

func (s *Server) serveRoute(w *response, r *http.Request) {
	s.mu.Lock()
	routes := s.routes
	s.mu.Unlock()
	for _, route := range routes {
		prefix := strings.HasSuffix(route.pattern, "/") && strings.HasPrefix(r.URL.Path, route.pattern)
		if prefix || r.URL.Path == strings.TrimSuffix(route.pattern, "/") {
			if openapi := "/openapi/v3"; route.pattern == openapi || route.pattern == openapi+"/" {
				w.reachesPath(r, requestSort{sub: route.pattern[1:]})
			}
			if len(route.types) > 0 && !negotiate.RoutedTo(r.Header.Get("Accept"), route.types...) {
				s.fail(w, r, negotiate.UnroutedTo(route.types...))
				return
			}
			route.handler.ServeHTTP(w, r)
			return
		}
	}
	http.NotFound(w, r)
}
