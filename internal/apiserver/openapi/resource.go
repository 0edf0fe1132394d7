package openapi

import (
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"

	"clipper.dev/clipper/internal/apiserver"
)

var (
	anything   = []string{"*/*"}
	objects    = []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	streams    = slices.Concat(objects, []string{"application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"})
	patchTypes = []string{
		string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType),
	}
)

func modelOf(o any) model { return model(util.GetCanonicalTypeName(o)) }

// A subject is what the routes of a kind, or of a subresource of it, are about.
type subject struct {
	root        string // "/apis/apps/v1"
	kind        string // of the object that the path names
	gvk         schema.GroupVersionKind
	body        model
	list        model
	namespaced  bool
	collection  string // "namespaces/{namespace}/deployments"
	plural      string // "deployments"
	sub         string // "status"
	returnsGone bool
}

// routesOf lists what a kind is served with.
func routesOf(s *apiserver.Served) []common.Route {
	row := s.Row
	gv := schema.GroupVersion{Group: row.Group, Version: s.Version.Version}
	subj := subject{
		root: rootOf(gv), kind: row.Kind, gvk: gv.WithKind(row.Kind), body: modelOf(s.Version.New()),
		namespaced: row.Namespaced, collection: row.Name, plural: row.Name,
		// A namespace, too, is answered with itself, but upstream's document says otherwise.
		returnsGone: row.ReturnsDeleted && row.Kind != "Namespace",
	}
	if s.Version.NewList != nil {
		subj.list = modelOf(s.Version.NewList())
	}
	if isCustom(s) {
		subj.body, subj.list = customModels(s)
	}
	if row.Namespaced {
		subj.collection = "namespaces/{namespace}/" + row.Name
	}
	out := subj.main(s.Verbs)
	for i := range s.Subresources {
		out = append(out, subj.below(s, &s.Subresources[i])...)
	}
	if isCustom(s) {
		return customRoutes(out)
	}
	return out
}

// rootOf is the path of a group and version.
func rootOf(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.String()
}

func (s *subject) item() string {
	if s.sub == "" {
		return s.collection + "/{name}"
	}
	return s.collection + "/{name}/" + s.sub
}

// scope is the part of an operation's name that tells of the namespace.
func (s *subject) scope() string {
	if s.namespaced {
		return "Namespaced"
	}
	return ""
}

// article puts the indefinite article between two words, unless the second is a plural.
func article(noun string) string {
	if strings.HasSuffix(noun, "s") && !strings.HasSuffix(noun, "ss") {
		return " "
	}
	if strings.ContainsRune("aeiouAEIOU", rune(noun[0])) {
		return " an "
	}
	return " a "
}

func title(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// of words what a route acts on: the object, or a part of it.
func (s *subject) of(verb, article string) string {
	if s.sub == "" {
		return verb + article + s.kind
	}
	return verb + " " + s.sub + " of" + article + s.kind
}

const specified = " the specified "

// new begins a route. named is set if the path has the object's name.
func (s *subject) new(method, path, action, operation, description string, named bool) *route {
	r := &route{
		method: method, path: s.root + "/" + path, operation: operation, description: description,
		consumes: anything, produces: objects,
		metadata: map[string]any{
			"x-kubernetes-action":             action,
			"x-kubernetes-group-version-kind": metav1.GroupVersionKind{Group: s.gvk.Group, Version: s.gvk.Version, Kind: s.gvk.Kind},
		},
	}
	if strings.Contains(path, "{namespace}") {
		r.params = append(r.params, namespaceParam)
	}
	if named {
		r.params = append(r.params, nameParam(s.gvk.Kind))
	}
	return r
}

// with adds the fields of an options type, and pretty.
func (r *route) with(options documented, except ...string) *route {
	r.params = append(append(r.params, prettyParam), optionsParams(options, except...)...)
	return r
}

// main lists the routes of the objects themselves.
func (s *subject) main(verbs []string) []common.Route {
	var out []common.Route
	has := func(verb string) bool { return slices.Contains(verbs, verb) }
	if has("list") {
		out = append(out, s.listing(has("watch"))...)
	}
	if has("create") {
		out = append(out, s.create(s.collection, false))
	}
	if has("deletecollection") {
		out = append(out, s.deleteCollection())
	}
	if has("get") {
		out = append(out, s.get())
	}
	if has("update") {
		out = append(out, s.put())
	}
	if has("patch") {
		out = append(out, s.patch())
	}
	if has("delete") {
		out = append(out, s.delete())
	}
	if has("watch") {
		out = append(out, s.watching(has("list"))...)
	}
	return out
}

func (s *subject) listing(watched bool) []common.Route {
	description := "list objects of kind " + s.kind
	if watched {
		description = "list or watch objects of kind " + s.kind
	}
	list := func(path, operation string) common.Route {
		r := s.new(http.MethodGet, path, "list", operation, description, false).with(metav1.ListOptions{}).returns(s.list, http.StatusOK)
		r.produces = streams
		return r
	}
	out := []common.Route{list(s.collection, "list"+s.scope()+s.kind)}
	if s.namespaced {
		out = append(out, list(s.plural, "list"+s.kind+"ForAllNamespaces"))
	}
	return out
}

const (
	watchObjectHint = ". deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter."
	watchListHint   = ". deprecated: use the 'watch' parameter with a list operation instead."
)

// watching lists the routes below /watch, which are older than the watch parameter.
func (s *subject) watching(listed bool) []common.Route {
	event := modelOf(metav1.WatchEvent{})
	watch := func(path, action, operation, description string, named bool) common.Route {
		r := s.new(http.MethodGet, "watch/"+path, action, operation, description, named).with(metav1.ListOptions{}).returns(event, http.StatusOK)
		r.produces = streams
		return r
	}
	out := []common.Route{watch(s.item(), "watch", "watch"+s.scope()+s.kind, "watch changes to an object of kind "+s.kind+watchObjectHint, true)}
	if !listed {
		return out
	}
	description := "watch individual changes to a list of " + s.kind + watchListHint
	out = append(out, watch(s.collection, "watchlist", "watch"+s.scope()+s.kind+"List", description, false))
	if s.namespaced {
		out = append(out, watch(s.plural, "watchlist", "watch"+s.kind+"ListForAllNamespaces", description, false))
	}
	return out
}

func (s *subject) create(path string, named bool) *route {
	r := s.new(http.MethodPost, path, "post", "create"+s.scope()+s.kind+title(s.sub), s.of("create", article(s.kind)), named).with(metav1.CreateOptions{})
	r.body = s.body
	return r.returns(s.body, http.StatusOK, http.StatusCreated, http.StatusAccepted)
}

func (s *subject) get() *route {
	r := s.new(http.MethodGet, s.item(), "get", "read"+s.scope()+s.kind+title(s.sub), s.of("read", specified), true)
	r.params = append(r.params, prettyParam)
	return r.returns(s.body, http.StatusOK)
}

func (s *subject) put() *route {
	r := s.new(http.MethodPut, s.item(), "put", "replace"+s.scope()+s.kind+title(s.sub), s.of("replace", specified), true).with(metav1.UpdateOptions{})
	r.body = s.body
	return r.returns(s.body, http.StatusOK, http.StatusCreated)
}

func (s *subject) patch() *route {
	r := s.new(http.MethodPatch, s.item(), "patch", "patch"+s.scope()+s.kind+title(s.sub), s.of("partially update", specified), true).with(metav1.PatchOptions{})
	r.body, r.consumes = modelOf(metav1.Patch{}), patchTypes
	return r.returns(s.body, http.StatusOK, http.StatusCreated)
}

func (s *subject) delete() *route {
	r := s.new(http.MethodDelete, s.item(), "delete", "delete"+s.scope()+s.kind+title(s.sub), s.of("delete", article(s.kind)), true).with(metav1.DeleteOptions{})
	r.body, r.optionalBody = modelOf(metav1.DeleteOptions{}), true
	gone := modelOf(metav1.Status{})
	if s.returnsGone {
		gone = s.body
	}
	return r.returns(gone, http.StatusOK, http.StatusAccepted)
}

func (s *subject) deleteCollection() *route {
	r := s.new(http.MethodDelete, s.collection, "deletecollection", "deletecollection"+s.scope()+s.kind, "delete collection of "+s.kind, false)
	r.with(metav1.DeleteOptions{})
	r.params = append(r.params, optionsParams(metav1.ListOptions{}, "watch", "allowWatchBookmarks")...)
	r.body, r.optionalBody = modelOf(metav1.DeleteOptions{}), true
	return r.returns(modelOf(metav1.Status{}), http.StatusOK)
}

// below lists the routes of a subresource.
func (s *subject) below(served *apiserver.Served, sub *apiserver.ServedSubresource) []common.Route {
	part := *s
	part.sub, part.gvk = sub.Name, sub.Kind
	if options, streaming := connectOptions[sub.Kind.Kind]; streaming {
		return part.connect(options, sub.Verbs)
	}
	if sub.Name == "log" {
		r := part.get()
		r.params = append(slices.DeleteFunc(r.params, func(p common.Parameter) bool { return p == prettyParam }), append(optionsParams(corev1.PodLogOptions{}), prettyParam)...)
		r.produces, r.answers = append([]string{"text/plain"}, objects...), nil
		return []common.Route{r.returns(text, http.StatusOK)}
	}
	part.body = part.subBody(served, sub)
	var out []common.Route
	for _, verb := range sub.Verbs {
		switch verb {
		case "create":
			out = append(out, part.create(part.item(), true))
		case "get":
			out = append(out, part.get())
		case "update":
			out = append(out, part.put())
		case "patch":
			out = append(out, part.patch())
		case "delete":
			out = append(out, part.delete())
		}
	}
	return out
}

// subBody is the model of a subresource's body.
func (s *subject) subBody(served *apiserver.Served, sub *apiserver.ServedSubresource) model {
	if sub.Name == "scale" {
		return scaleModel
	}
	for i := range served.Row.Subresources {
		if r := &served.Row.Subresources[i]; r.Name == sub.Name && r.New != nil {
			return modelOf(r.New())
		}
	}
	return s.body
}

// connect lists the routes of a streaming subresource.
func (s *subject) connect(options documented, verbs []string) []common.Route {
	methods := []string{http.MethodGet, http.MethodPost}
	paths := []string{s.item()}
	if s.sub == "proxy" {
		methods = append(methods, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodHead, http.MethodOptions)
		paths = append(paths, s.item()+"/{path}")
	}
	var out []common.Route
	for _, path := range paths {
		suffix, withPath := "", strings.HasSuffix(path, "{path}")
		if withPath {
			suffix = "WithPath"
		}
		for _, method := range methods {
			operation := "connect" + title(strings.ToLower(method)) + s.scope() + s.kind + title(s.sub) + suffix
			r := s.new(method, path, "connect", operation, "connect "+method+" requests to "+s.sub+" of "+s.kind, true)
			r.produces = anything
			r.params = append(r.params, optionsParams(options)...)
			if withPath {
				// The parameter of the path is the one of that name; the option of the same name stays the query's.
				r.params = append(r.params, pathParam)
			}
			out = append(out, r.returns(text, http.StatusOK))
		}
	}
	return out
}
