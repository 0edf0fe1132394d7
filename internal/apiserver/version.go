package apiserver

import (
	"encoding/json"
	"net/http"
	"runtime"
	"sort"

	apiversion "k8s.io/apimachinery/pkg/version"
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
	s.sendJSON(w, r, s.cfg.Version)
}

// servePaths lists what is served below "/".
func (s *Server) servePaths(w http.ResponseWriter, r *http.Request) {
	paths := []string{"/api", "/apis", "/healthz", "/livez", "/metrics", "/readyz", "/version"}
	for _, g := range s.catalog.Load().groups {
		if g.name != "" {
			paths = append(paths, "/apis/"+g.name)
		}
		for _, v := range g.versions {
			if g.name == "" {
				paths = append(paths, "/api/"+v.gv.Version)
				continue
			}
			paths = append(paths, "/apis/"+v.gv.String())
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
