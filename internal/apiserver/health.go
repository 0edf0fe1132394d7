package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"clipper.dev/clipper/internal/exposition"
)

// A HealthCheck says whether a part of the process works; nil is well.
type HealthCheck func(ctx context.Context) error

type healthCheck struct {
	name  string
	check HealthCheck
	// live is set for checks whose failure a restart may cure; the others only keep traffic away.
	live bool
}

// healthChecks answer /healthz, /livez and /readyz.
type healthChecks struct {
	mu     sync.Mutex
	checks []healthCheck
	slis   *exposition.SLIs
}

// AddCheck makes a named check part of /readyz and /healthz, and of /livez if a restart may cure what it finds.
func (s *Server) AddCheck(name string, live bool, check HealthCheck) {
	s.health.add(healthCheck{name, check, live})
}

// AddComponent makes a part of the control plane known to clients that list componentstatuses.
func (s *Server) AddComponent(name string, check HealthCheck) {
	s.components.add(healthCheck{name: name, check: check})
}

// all are the checks as they are now.
func (h *healthChecks) all() []healthCheck {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.checks
}

func (h *healthChecks) add(c healthCheck) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(slices.Clip(h.checks), c)
}

func (h *healthChecks) addDefaults(s *Server) {
	h.add(healthCheck{"ping", func(context.Context) error { return nil }, true})
	h.add(healthCheck{"log", func(context.Context) error { return nil }, true})
	h.add(healthCheck{"etcd", func(context.Context) error {
		select {
		case <-s.cfg.Store.Done():
			return errors.Join(errors.New("the store has stopped"), s.cfg.Store.Err())
		default:
			return nil
		}
	}, true})
	reach := func(ctx context.Context) error {
		_, err := s.cfg.Store.Sync(ctx)
		return err
	}
	h.add(healthCheck{"etcd-readiness", reach, false})
	s.AddComponent("etcd-0", reach)
	h.add(healthCheck{"informer-sync", func(context.Context) error { return nil }, false})
	h.add(healthCheck{"shutdown", func(context.Context) error {
		if s.stop.Err() != nil {
			return errors.New("process is shutting down")
		}
		return nil
	}, false})
}

// chosen are the checks of an endpoint.
func (h *healthChecks) chosen(endpoint string) []healthCheck {
	h.mu.Lock()
	defer h.mu.Unlock()
	if endpoint == "livez" {
		return slices.DeleteFunc(slices.Clone(h.checks), func(c healthCheck) bool { return !c.live })
	}
	if endpoint == "healthz" {
		return slices.DeleteFunc(slices.Clone(h.checks), func(c healthCheck) bool { return c.name == "shutdown" })
	}
	return h.checks
}

func (h *healthChecks) serves(path string) bool {
	endpoint, _ := splitHealth(path)
	return endpoint == "healthz" || endpoint == "livez" || endpoint == "readyz"
}

func splitHealth(path string) (endpoint, check string) {
	endpoint, check, _ = strings.Cut(strings.Trim(path, "/"), "/")
	return endpoint, check
}

func (h *healthChecks) paths() []string {
	var out []string
	for _, endpoint := range []string{"healthz", "livez", "readyz"} {
		for _, c := range h.chosen(endpoint) {
			out = append(out, "/"+endpoint+"/"+c.name)
		}
	}
	return out
}

// serve runs an endpoint's checks, or the one that the path names, and tells as upstream does what they found.
func (h *healthChecks) serve(w http.ResponseWriter, r *http.Request) {
	endpoint, only := splitHealth(r.URL.Path)
	checks := h.chosen(endpoint)
	if only != "" {
		checks = slices.DeleteFunc(slices.Clone(checks), func(c healthCheck) bool { return c.name != only })
		if len(checks) == 0 {
			http.NotFound(w, r)
			return
		}
	}
	excluded := r.URL.Query()["exclude"]
	var out bytes.Buffer
	failed := 0
	for _, c := range checks {
		if slices.Contains(excluded, c.name) {
			fmt.Fprintf(&out, "[+]%s excluded: ok\n", c.name)
			continue
		}
		err := c.check(r.Context())
		if only == "" {
			h.slis.Found(c.name, endpoint, err)
		}
		if err != nil {
			failed++
			fmt.Fprintf(&out, "[-]%s failed: reason withheld\n", c.name)
			continue
		}
		fmt.Fprintf(&out, "[+]%s ok\n", c.name)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if only == "" {
		w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	_, verbose := r.URL.Query()["verbose"]
	switch {
	case failed > 0:
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", out.String(), endpoint)
	case verbose && only == "":
		fmt.Fprintf(w, "%s%s check passed\n", out.String(), endpoint)
	default:
		fmt.Fprint(w, "ok")
	}
}
