package apiserver

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/apiserver/request"
)

// A requestSort is all requests that are counted together, whatever their answers. Its labels are upstream's.
type requestSort struct {
	component, verb, dry, group, version, resource, sub, scope string
	sized                                                      bool // how long the answers are is counted too
}

// The components that requests are counted for. Some endpoints are of none.
const (
	serverComponent     = "apiserver"
	aggregatorComponent = "aggregator"
)

// reaches notes that a request has come to a resource that serves its verb: from then on it's one of those that are counted.
func (w *response) reaches(r *http.Request, info *request.Info, custom bool) {
	sort := requestSort{component: serverComponent, group: info.Group, version: info.Version, resource: info.Resource, sub: info.Subresource}
	if custom {
		sort.scope = scopeLabel(info)
		sort.sized = info.Verb == "get" || info.Verb == "list"
	} else {
		sort.scope = routeScope(info)
		sort.sized = r.Method == http.MethodGet && !info.WatchPrefix && !connects(info)
	}
	sort.verb = verbLabel(r, info, sort.scope)
	if info.WatchPrefix {
		sort.verb = "WATCH"
	}
	w.sort = sort
}

// reachesPath is reaches for endpoints outside the API's resources that upstream counts.
func (w *response) reachesPath(r *http.Request, sort requestSort) {
	sort.verb, sort.sized = methodLabel(r.Method), true
	w.sort = sort
}

// routeScope is the scope of a route, which a name that only a selector tells doesn't change.
func routeScope(info *request.Info) string {
	if (info.Verb == "list" || info.Verb == "watch" || info.Verb == "deletecollection") && !info.WatchPrefix {
		if info.Namespace != "" || strings.Contains(info.Path, "/namespaces//") {
			return "namespace"
		}
		return "cluster"
	}
	return scopeLabel(info)
}

func scopeLabel(info *request.Info) string {
	switch {
	case info.Name != "" || info.Verb == "create":
		return "resource"
	case info.Namespace != "":
		return "namespace"
	case info.IsResource:
		return "cluster"
	}
	return ""
}

// connects tells whether a request is for a subresource that streams.
func connects(info *request.Info) bool {
	switch info.Subresource {
	case "log", "exec", "attach", "portforward", "proxy":
		return true
	}
	return false
}

// verbLabel is upstream's name of what a request does: its method, where nothing tells more.
func verbLabel(r *http.Request, info *request.Info, scope string) string {
	switch {
	case info.IsResource && connects(info):
		return "CONNECT"
	case r.Method == http.MethodGet && asksToWatch(r.URL):
		return "WATCH"
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && scope != "resource" && scope != "":
		return "LIST"
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == string(types.ApplyPatchType):
		return "APPLY"
	}
	return methodLabel(r.Method)
}

func methodLabel(method string) string {
	switch method {
	case http.MethodHead:
		return http.MethodGet
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	}
	return "other"
}

// asksToWatch tells whether a query has the parameter, also where it has no effect.
func asksToWatch(u *url.URL) bool {
	if !strings.Contains(u.RawQuery, "watch") {
		return false
	}
	values := u.Query()["watch"]
	return len(values) > 0 && values[0] != "0" && !strings.EqualFold(values[0], "false")
}

func dryRunLabel(u *url.URL) string {
	if !strings.Contains(u.RawQuery, "dryRun") {
		return ""
	}
	switch values := u.Query()["dryRun"]; {
	case len(values) == 0:
		return ""
	case slices.ContainsFunc(values, func(v string) bool { return v != "All" }):
		return "invalid"
	}
	return "All"
}
