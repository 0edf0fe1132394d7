package apiserver

import (
	"encoding/json"
	"net/http"
	"runtime"
	"sort"

	apiversion "k8s.io/apimachinery/pkg/version"

	"clipper.dev/clipper/internal/apiserver/negotiate"
)

// defaultVersion is the version of Kubernetes whose API this is.
func defaultVersion() apiversion.Info {
	return apiversion.Info{
		Major: "1", Minor: "36", EmulationMajor: "1", EmulationMinor: "36", MinCompatibilityMajor: "1", MinCompatibilityMinor: "35",
		GitVersion: "v1.36.3", GitTreeState: "clean",
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

func (s *Server) serveVersion(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		s.fail(w, r, errMethod)
		return
	}
	if accept := r.Header.Get("Accept"); !negotiate.RoutedTo(accept, "application/json") {
		s.fail(w, r, negotiate.UnroutedTo("application/json"))
		return
	}
	s.sendJSON(w, r, s.cfg.Version)
}

// servePaths lists what is served below "/".
func (s *Server) servePaths(w http.ResponseWriter, r *http.Request) {
	paths := []string{"/api", "/apis", "/apis/", "/flagz", "/healthz", "/livez", "/metrics", "/metrics/slis", "/readyz", "/statusz", "/version"}
	c := s.catalog.Load()
	for _, version := range c.apiVersions("").Versions {
		paths = append(paths, "/api/"+version)
	}
	for _, g := range addRemotes(c.groupList(), s.remoteDiscovery()).Groups {
		paths = append(paths, "/apis/"+g.Name)
		for _, v := range g.Versions {
			paths = append(paths, "/apis/"+v.GroupVersion)
		}
	}
	s.mu.Lock()
	for _, route := range s.routes {
		paths = append(paths, route.pattern)
	}
	s.mu.Unlock()
	paths = append(paths, s.health.paths()...)
	sort.Strings(paths)
	s.sendJSON(w, r, map[string][]string{"paths": paths})
}

// sendJSON answers with an indented document that is no API object.
func (s *Server) sendJSON(w http.ResponseWriter, r *http.Request, o any) {
	body, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.respond(w, r, http.StatusOK, "application/json", body)
}
