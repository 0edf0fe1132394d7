package apiserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/stored"
	"clipper.dev/clipper/internal/store"
)

// A resource is one row being served.
type resource struct {
	row      *api.Resource
	hub      schema.GroupVersionKind
	newHub   func() api.Object
	kind     *stored.Kind // shared by the rows that share a table
	table    *store.Table // nil for virtual resources
	versions []*version   // in the row's order
	sharers  []*version   // all versions that show the table's objects, also those of other rows; set with the catalog
}

// A version is one served version of a resource: what a request names.
type version struct {
	*resource
	row      *api.Resource // the resource's, or the version's own
	api      *api.Version
	gvr      schema.GroupVersionResource
	gvk      schema.GroupVersionKind
	listKind string

	transactions [storageOperations]lazy[storageSeries]
}

// gr names the resource in errors.
func (r *resource) gr() schema.GroupResource {
	return schema.GroupResource{Group: r.row.Group, Resource: r.row.Name}
}

// gk names the kind in errors: the hub's, in whose terms it is validated.
func (r *resource) gk() schema.GroupKind { return r.hub.GroupKind() }

func (r *resource) virtual() bool { return r.table == nil }

// verbs are what the row serves.
func (r *resource) verbs() []string {
	if r.row.Verbs != nil {
		return r.row.Verbs
	}
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}

// shownVerbs are what discovery lists.
func (r *resource) shownVerbs() []string {
	if r.row.ShownVerbs != nil {
		return r.row.ShownVerbs()
	}
	return r.verbs()
}

// key is an object's place in the table.
func (r *resource) key(namespace, name string) string {
	if !r.row.Namespaced {
		return name
	}
	return namespace + "/" + name
}

// toHub converts an object of this version; the result may be the object itself.
func (v *version) toHub(o api.Object) (api.Object, error) {
	if v.api.ToHub == nil {
		return o, nil
	}
	hub, err := v.api.ToHub(o)
	if err != nil {
		return nil, fmt.Errorf("convert a %s to %s: %w", v.gvk, v.hub, err)
	}
	return hub, nil
}

// fromHub converts a stored object to this version; the result may be the object itself, shared and read-only.
func (v *version) fromHub(o api.Object) (api.Object, error) {
	if v.api.FromHub == nil {
		return o, nil
	}
	out, err := v.api.FromHub(o)
	if err != nil && v.text() { // a webhook's error, in upstream's words
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("convert a %s to %s: %w", v.hub, v.gvk, err)
	}
	return out, nil
}

// fromHubs is fromHub for many, where the version has a way to do that.
func (v *version) fromHubs(hubs []api.Object) ([]api.Object, error) {
	return v.api.FromHubs(hubs)
}

// stable tells whether canonical bytes are this version's message already.
func (v *version) stable() bool { return v.api.FromHub == nil }

// A catalog is all that is served: immutable, replaced as a whole when a kind comes or goes.
type catalog struct {
	resources []*resource
	byGVR     map[schema.GroupVersionResource]*version
	groups    []*group // the core group first, the others by priority
	scheme    *runtime.Scheme
}

// A group is one API group with its versions, the preferred one first.
type group struct {
	name     string
	versions []*groupVersion
}

// A groupVersion holds the kinds of one group and version, by name.
type groupVersion struct {
	gv        schema.GroupVersion
	resources []*version
}

func (c *catalog) lookup(gvr schema.GroupVersionResource) (*version, bool) {
	v, ok := c.byGVR[gvr]
	return v, ok
}

func (c *catalog) groupVersion(gv schema.GroupVersion) (*groupVersion, bool) {
	for _, g := range c.groups {
		for _, v := range g.versions {
			if v.gv == gv {
				return v, true
			}
		}
	}
	return nil, false
}

// newCatalog derives everything from the resources.
func newCatalog(resources []*resource) (*catalog, error) {
	c := &catalog{resources: resources, byGVR: map[schema.GroupVersionResource]*version{}, scheme: runtime.NewScheme()}
	groups := map[string]*group{}
	for _, r := range resources {
		for _, v := range r.versions {
			if _, twice := c.byGVR[v.gvr]; twice {
				return nil, fmt.Errorf("two rows serve %s", v.gvr)
			}
			c.byGVR[v.gvr] = v
			if groups[r.row.Group] == nil {
				groups[r.row.Group] = &group{name: r.row.Group}
			}
			groups[r.row.Group].add(v)
			addTypes(c.scheme, v)
		}
	}
	// Options and Status may come in any group and version that is served, in v1 and in meta.k8s.io/v1.
	for _, gv := range append(groupVersionsOf(groups), schema.GroupVersion{Version: "v1"}, metav1.SchemeGroupVersion) {
		metav1.AddToGroupVersion(c.scheme, gv)
	}
	share(resources)
	c.groups = slices.SortedFunc(maps.Values(groups), compareGroups)
	for _, g := range c.groups {
		slices.SortStableFunc(g.versions, func(a, b *groupVersion) int { return compareVersions(b.gv.Version, a.gv.Version) })
		for _, gv := range g.versions {
			slices.SortFunc(gv.resources, func(a, b *version) int { return strings.Compare(a.row.Name, b.row.Name) })
		}
	}
	return c, nil
}

// share tells the resources of one table of each other.
func share(resources []*resource) {
	byPrefix := map[string][]*version{}
	for _, r := range resources {
		byPrefix[r.row.Prefix] = append(byPrefix[r.row.Prefix], r.versions...)
	}
	for _, r := range resources {
		if r.row.Prefix != "" && r.sharers == nil {
			r.sharers = byPrefix[r.row.Prefix]
		}
	}
}

func groupVersionsOf(groups map[string]*group) []schema.GroupVersion {
	var all []schema.GroupVersion
	for _, g := range groups {
		for _, v := range g.versions {
			all = append(all, v.gv)
		}
	}
	return all
}

func (g *group) add(v *version) {
	for _, gv := range g.versions {
		if gv.gv == v.gvk.GroupVersion() {
			gv.resources = append(gv.resources, v)
			return
		}
	}
	g.versions = append(g.versions, &groupVersion{gv: v.gvk.GroupVersion(), resources: []*version{v}})
}

// addTypes makes the version's types, and those of its subresources' bodies, known to the decoders.
func addTypes(scheme *runtime.Scheme, v *version) {
	scheme.AddKnownTypeWithName(v.gvk, v.api.New())
	if v.api.NewList != nil {
		scheme.AddKnownTypeWithName(v.gvk.GroupVersion().WithKind(v.listKind), v.api.NewList())
	}
	for _, sub := range v.row.Subresources {
		if sub.New != nil && !sub.GVK.Empty() && !scheme.Recognizes(sub.GVK) {
			scheme.AddKnownTypeWithName(sub.GVK, sub.New())
		}
	}
	if v.row.Scale != nil && !scheme.Recognizes(scaleKind) {
		scheme.AddKnownTypeWithName(scaleKind, newScale())
	}
}

// newResource joins a row with its table's kind, which tables keeps by prefix.
func newResource(row *api.Resource, rows []*api.Resource, kinds map[string]*stored.Kind) (*resource, error) {
	if len(row.Versions) == 0 {
		return nil, fmt.Errorf("the row of %s serves no version", row.Name)
	}
	r := &resource{row: row, hub: hubOf(row)}
	for i := range row.Versions {
		v := &row.Versions[i]
		if v.StoredOnly {
			continue
		}
		gv := schema.GroupVersion{Group: row.Group, Version: v.Version}
		own := row
		if v.Own != nil {
			own = v.Own
		}
		r.versions = append(r.versions, &version{
			resource: r, row: own, api: v,
			gvr: gv.WithResource(row.Name), gvk: gv.WithKind(row.Kind), listKind: listKindOf(row, v),
		})
	}
	if r.newHub = makerOf(r.hub, rows); r.newHub == nil {
		return nil, fmt.Errorf("%s is stored as %s, which no row makes", row.Name, r.hub)
	}
	if row.Prefix == "" {
		return r, nil
	}
	k := kinds[row.Prefix]
	if k == nil {
		k = &stored.Kind{
			GVK: r.hub, New: r.newHub, Default: row.Default, Renew: row.Renew, Restore: row.Restore,
			Fields: map[string]func(api.Object) string{}, Versions: map[schema.GroupVersionKind]stored.Version{r.hub: {New: r.newHub}},
			Text: isText(r.newHub()), Stored: row.Stored,
		}
		kinds[row.Prefix] = k
	}
	maps.Copy(k.Fields, row.Fields)
	if row.WrittenAs != "" {
		k.WrittenAs = r.written()
	}
	for i := range row.Versions {
		v := &row.Versions[i]
		if gvk := (schema.GroupVersionKind{Group: row.Group, Version: v.Version, Kind: row.Kind}); gvk != k.GVK {
			k.Versions[gvk] = stored.Version{New: v.New, ToHub: v.ToHub, FromHub: v.FromHub}
		}
	}
	r.kind = k
	return r, nil
}

func hubOf(row *api.Resource) schema.GroupVersionKind {
	if !row.StoredAs.Empty() {
		return row.StoredAs
	}
	return schema.GroupVersionKind{Group: row.Group, Version: row.Versions[0].Version, Kind: row.Kind}
}

// written is the type that values in etcd have.
func (r *resource) written() schema.GroupVersionKind {
	if r.row.WrittenAs == "" {
		return r.hub
	}
	return schema.GroupVersionKind{Group: r.row.Group, Version: r.row.WrittenAs, Kind: r.row.Kind}
}

// makerOf finds who makes objects of a type: a row's own version, or another row's.
func makerOf(gvk schema.GroupVersionKind, rows []*api.Resource) func() api.Object {
	for _, row := range rows {
		if row.Group != gvk.Group || row.Kind != gvk.Kind {
			continue
		}
		for _, v := range row.Versions {
			if v.Version == gvk.Version {
				return v.New
			}
		}
	}
	return nil
}

// listKindOf is the Go name of the list type, which is the API's.
func listKindOf(row *api.Resource, v *api.Version) string {
	if row.ListKind != "" {
		return row.ListKind
	}
	if v.NewList == nil {
		return row.Kind + "List"
	}
	name := fmt.Sprintf("%T", v.NewList())
	return name[strings.LastIndexByte(name, '.')+1:]
}
