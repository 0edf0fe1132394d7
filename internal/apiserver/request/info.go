package request

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Info is what a request asks.
type Info struct {
	// IsResource is true for requests below /api/<version>/ and /apis/<group>/<version>/ that name a resource.
	IsResource bool
	Path       string
	Verb       string // "get", "list", "watch", "create", …; "proxy" for the old paths /api/v1/proxy/…; the method in lower case for other paths

	Group, Version                         string
	Namespace, Resource, Subresource, Name string
	// Rest is the path below the subresource, with its leading slash: what a proxy passes on. RestSet tells "" from absent.
	Rest    string
	RestSet bool
	// WatchPrefix is set for the old paths /api/v1/watch/….
	WatchPrefix bool
	// Incomplete is set for /api/v1/watch and /api/v1/proxy, which don't say of what.
	Incomplete bool

	FieldSelector, LabelSelector string
}

// GroupVersion is the group and version of a resource request.
func (i *Info) GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: i.Group, Version: i.Version}
}

// GroupVersionResource names the resource of a resource request.
func (i *Info) GroupVersionResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: i.Group, Version: i.Version, Resource: i.Resource}
}

// Of reads a request.
func Of(r *http.Request) *Info {
	info := &Info{Path: r.URL.Path, Verb: strings.ToLower(r.Method)}
	parts, ok := info.splitGroup(r.URL.Path)
	if !ok || len(parts) == 0 {
		return info
	}
	switch r.Method {
	case http.MethodPost:
		info.Verb = "create"
	case http.MethodGet, http.MethodHead:
		info.Verb = "get"
	case http.MethodPut:
		info.Verb = "update"
	case http.MethodPatch:
		info.Verb = "patch"
	case http.MethodDelete:
		info.Verb = "delete"
	default:
		info.Verb = ""
	}
	switch parts[0] {
	case "watch", "proxy":
		if len(parts) == 1 || parts[1] == "" && len(parts) == 2 {
			info.Incomplete = true
			break
		}
		info.WatchPrefix, info.Verb = parts[0] == "watch", parts[0]
		parts = parts[1:]
	}
	info.splitResource(parts)
	info.IsResource = true
	info.refineVerb(r)
	return info
}

// splitGroup takes the group and version from the front of a path.
func (i *Info) splitGroup(path string) (rest []string, ok bool) {
	path = strings.TrimPrefix(path, "/")
	if after, found := strings.CutPrefix(path, "api/"); found {
		parts := strings.Split(after, "/")
		i.Version = parts[0]
		return dropEmptyTail(parts[1:]), true
	}
	if after, found := strings.CutPrefix(path, "apis/"); found {
		parts := strings.Split(after, "/")
		if len(parts) < 2 {
			return nil, false
		}
		i.Group, i.Version = parts[0], parts[1]
		return dropEmptyTail(parts[2:]), true
	}
	return nil, false
}

func dropEmptyTail(parts []string) []string {
	if len(parts) == 1 && parts[0] == "" {
		return nil
	}
	return parts
}

func (i *Info) splitResource(parts []string) {
	if parts[0] == "namespaces" && len(parts) > 1 {
		i.Namespace = parts[1]
		// A namespace's own subresources are no resources inside it.
		if len(parts) > 2 && parts[2] != "" && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	i.Resource = parts[0]
	if len(parts) > 1 {
		i.Name = parts[1]
	}
	if i.Verb == "proxy" {
		return
	}
	if len(parts) > 2 {
		i.Subresource = parts[2]
	}
	if len(parts) > 3 {
		i.Rest, i.RestSet = "/"+strings.Join(parts[3:], "/"), true
	}
}

// refineVerb tells list and watch from get, and deletecollection from delete.
func (i *Info) refineVerb(r *http.Request) {
	query := r.URL.RawQuery
	if i.Name != "" || (i.Verb != "get" && i.Verb != "delete" && i.Verb != "watch") {
		return // a watch parameter on one object's path is ignored
	}
	switch {
	case i.Verb == "delete":
		i.Verb = "deletecollection"
	case i.Verb == "get" && wantsWatch(query):
		i.Verb = "watch"
	case i.Verb == "get":
		i.Verb = "list"
	}
	if query == "" {
		return
	}
	values := r.URL.Query()
	i.FieldSelector, i.LabelSelector = values.Get("fieldSelector"), values.Get("labelSelector")
	// One object chosen by name is authorized as that object.
	if sel, err := fields.ParseSelector(i.FieldSelector); err == nil {
		if name, ok := sel.RequiresExactMatch("metadata.name"); ok && validSegment(name) {
			i.Name = name
		}
	}
}

func wantsWatch(query string) bool {
	if !strings.Contains(query, "watch=") {
		return false
	}
	values, _ := url.ParseQuery(query)
	v := values.Get("watch")
	on, err := strconv.ParseBool(v)
	// Upstream's decoding takes any value but 0 and false for true.
	return on || (err != nil && v != "")
}

func validSegment(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/%")
}
