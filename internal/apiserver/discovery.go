package apiserver

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/munnerz/goautoneg"
	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/apiserver/negotiate"
)

// serveDiscovery answers /api, /apis, /apis/<group> and /api(s)/…/<version>.
func (s *Server) serveDiscovery(w *response, r *http.Request, path string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.fail(w, r, errMethod)
		return
	}
	c := s.catalog.Load()
	parts := strings.Split(strings.Trim(path, "/"), "/")
	core := parts[0] == "api"
	if s.routesDiscovery(parts) && !negotiate.Routed(r.Header.Get("Accept")) {
		s.fail(w, r, negotiate.Unrouted(false))
		return
	}
	switch {
	case len(parts) == 1 && wantsAggregated(r):
		w.reachesPath(r, requestSort{component: serverComponent, sub: parts[0]})
		s.sendAggregated(w, r, s.aggregated(c, core))
	case len(parts) == 1 && core:
		s.sendDiscovery(w, r, c.apiVersions(s.cfg.Address))
	case len(parts) == 1:
		s.sendDiscovery(w, r, addRemotes(c.groupList(), s.remoteDiscovery()))
	case len(parts) == 2 && core:
		s.sendResources(w, r, schema.GroupVersion{Version: parts[1]})
	case len(parts) == 2:
		s.sendGroup(w, r, c, parts[1])
	case len(parts) == 3 && !core:
		s.sendResources(w, r, schema.GroupVersion{Group: parts[1], Version: parts[2]})
	default:
		http.NotFound(w, r)
	}
}

// routesDiscovery tells whether a path is one whose media types are looked at before what it serves: those of versions, and /api.
func (s *Server) routesDiscovery(parts []string) bool {
	switch {
	case parts[0] == "api":
		return len(parts) == 1 || len(parts) == 2 && parts[1] == "v1"
	case len(parts) == 3:
		_, ok := s.catalog.Load().groupVersion(schema.GroupVersion{Group: parts[1], Version: parts[2]})
		return ok
	}
	return false
}

func (s *Server) sendDiscovery(w http.ResponseWriter, r *http.Request, o runtime.Object) {
	media, ok := negotiate.Output(r, negotiate.Plain)
	if !ok {
		s.refuseDiscovery(w, r)
		return
	}
	body, err := encodeObject(o, media)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.respond(w, r, http.StatusOK, media.Format.ContentType(), body)
}

// refuseDiscovery answers a client that accepts no form of discovery: always in JSON, indented.
func (s *Server) refuseDiscovery(w http.ResponseWriter, r *http.Request) {
	status := statusOf(negotiate.NotAcceptable(negotiate.Plain))
	callOf(r.Context()).status = &status
	body, err := json.MarshalIndent(&status, "", "  ")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.respond(w, r, int(status.Code), negotiate.JSON.ContentType(), body)
}

func (s *Server) sendGroup(w http.ResponseWriter, r *http.Request, c *catalog, name string) {
	for _, doc := range addRemotes(c.groupList(), s.remoteDiscovery()).Groups {
		if doc.Name == name && name != "" {
			doc.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
			s.sendDiscovery(w, r, &doc)
			return
		}
	}
	http.NotFound(w, r)
}

func (s *Server) sendResources(w http.ResponseWriter, r *http.Request, gv schema.GroupVersion) {
	v, ok := s.catalog.Load().groupVersion(gv)
	if !ok {
		if gv.Group == "" || slices.ContainsFunc(s.catalog.Load().groups, func(g *group) bool { return g.name == gv.Group }) {
			s.fail(w, r, errVersion)
			return
		}
		http.NotFound(w, r)
		return
	}
	list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	if gv.Group == "" {
		list.APIVersion = "" // as upstream's: the core group's list has no version of its own
	}
	list.APIResources = []metav1.APIResource{}
	for _, res := range v.resources {
		list.APIResources = append(list.APIResources, res.apiResources()...)
	}
	s.sendDiscovery(w, r, list)
}

func (c *catalog) apiVersions(address string) *metav1.APIVersions {
	out := &metav1.APIVersions{
		TypeMeta:                   metav1.TypeMeta{Kind: "APIVersions"},
		Versions:                   []string{},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: address}},
	}
	for _, g := range c.groups {
		if g.name != "" {
			continue
		}
		for _, v := range g.versions {
			out.Versions = append(out.Versions, v.gv.Version)
		}
	}
	return out
}

func (c *catalog) groupList() *metav1.APIGroupList {
	out := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
	for _, g := range c.groups {
		if g.name != "" {
			out.Groups = append(out.Groups, g.api())
		}
	}
	return out
}

func (g *group) api() metav1.APIGroup {
	out := metav1.APIGroup{Name: g.name}
	for _, v := range g.versions {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: v.gv.String(), Version: v.gv.Version})
	}
	out.PreferredVersion = out.Versions[0]
	return out
}

// apiResources are a resource and its subresources as discovery shows them.
func (v *version) apiResources() []metav1.APIResource {
	out := []metav1.APIResource{{
		Name: v.row.Name, SingularName: v.row.Singular, Namespaced: v.row.Namespaced, Kind: v.row.Kind, Verbs: v.shownVerbs(),
		ShortNames: v.row.ShortNames, Categories: v.row.Categories, StorageVersionHash: v.storageHash(),
	}}
	for _, sub := range v.subresources() {
		r := metav1.APIResource{Name: v.row.Name + "/" + sub.name, Namespaced: v.row.Namespaced, Kind: sub.kind.Kind, Verbs: sub.verbs}
		if sub.kind.GroupVersion() != v.gvk.GroupVersion() {
			r.Group, r.Version = sub.kind.Group, sub.kind.Version
		}
		out = append(out, r)
	}
	return out
}

// storageHash identifies the stored version, as upstream computes it.
func (v *version) storageHash() string {
	if v.virtual() {
		return ""
	}
	written := v.written()
	sum := sha256.Sum256([]byte(written.Group + "/" + written.Version + "/" + written.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

// sendAggregated answers with everything at once, for clients that ask for it.
func (s *Server) sendAggregated(w http.ResponseWriter, r *http.Request, list *apidiscovery.APIGroupDiscoveryList) {
	body, err := json.Marshal(list)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	sum := sha512.Sum512(body)
	etag := `"` + strings.ToUpper(hex.EncodeToString(sum[:])) + `"`
	h := w.Header()
	h.Set("ETag", etag)
	h.Set("Cache-Control", "public")
	h.Add("Vary", "Accept")
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	format := aggregatedFormat(r)
	if format == negotiate.Protobuf {
		if body, err = encodeObject(list, negotiate.Media{Format: negotiate.Protobuf}); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	s.respond(w, r, http.StatusOK, format.ContentType()+";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", body)
}

func (s *Server) aggregated(c *catalog, core bool) *apidiscovery.APIGroupDiscoveryList {
	list := c.aggregated(core)
	if core {
		return list
	}
	s.metrics.aggregations.Inc()
	return addAggregated(list, s.remoteDiscovery())
}

func wantsAggregated(r *http.Request) bool {
	_, ok := aggregatedClause(r)
	return ok
}

func aggregatedFormat(r *http.Request) negotiate.Format {
	format, _ := aggregatedClause(r)
	return format
}

func aggregatedClause(r *http.Request) (negotiate.Format, bool) {
	accept := r.Header.Get("Accept")
	if !strings.Contains(accept, "APIGroupDiscoveryList") {
		return negotiate.JSON, false
	}
	for _, clause := range goautoneg.ParseAccept(accept) {
		format, ok := negotiate.Input(clause.Type + "/" + clause.SubType)
		if !ok || format == negotiate.YAML {
			continue
		}
		p := clause.Params
		if p["as"] == "APIGroupDiscoveryList" && p["g"] == "apidiscovery.k8s.io" && p["v"] == "v2" {
			return format, true
		}
		if p["as"] == "" {
			return format, false // plain discovery is preferred
		}
	}
	return negotiate.JSON, false
}

func (c *catalog) aggregated(core bool) *apidiscovery.APIGroupDiscoveryList {
	out := &apidiscovery.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"},
		Items:    []apidiscovery.APIGroupDiscovery{},
	}
	for _, g := range c.groups {
		if (g.name == "") != core {
			continue
		}
		item := apidiscovery.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.name}}
		for _, gv := range g.versions {
			item.Versions = append(item.Versions, gv.aggregated())
		}
		out.Items = append(out.Items, item)
	}
	return out
}

func (g *groupVersion) aggregated() apidiscovery.APIVersionDiscovery {
	out := apidiscovery.APIVersionDiscovery{Version: g.gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent}
	for _, v := range g.resources {
		scope := apidiscovery.ScopeCluster
		if v.row.Namespaced {
			scope = apidiscovery.ScopeNamespace
		}
		r := apidiscovery.APIResourceDiscovery{
			Resource: v.row.Name, ResponseKind: g.responseKind(v.gvk), Scope: scope, SingularResource: v.row.Singular,
			Verbs: v.shownVerbs(), ShortNames: v.row.ShortNames, Categories: v.row.Categories,
		}
		for _, sub := range v.subresources() {
			r.Subresources = append(r.Subresources, apidiscovery.APISubresourceDiscovery{
				Subresource: sub.name, ResponseKind: g.responseKind(sub.kind), Verbs: sub.verbs,
			})
		}
		out.Resources = append(out.Resources, r)
	}
	return out
}

// responseKind names a kind, with its group and version only where they are others than those that it is listed under.
func (g *groupVersion) responseKind(gvk schema.GroupVersionKind) *metav1.GroupVersionKind {
	if gvk.GroupVersion() == g.gv {
		return &metav1.GroupVersionKind{Kind: gvk.Kind}
	}
	return &metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}
}
