package managed

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver"
)

// maxUpdaters is the number of managers by update that an object keeps apart. The library merges the oldest of more.
const maxUpdaters = 10

// An owner is one entry of managed fields.
type owner struct {
	id     ownerID
	fields *fieldSet
	time   *metav1.Time
}

// ownerID tells owners apart. Those that apply have no version: they are one whatever version they apply.
type ownerID struct {
	manager, subresource string
	applied              bool
	version              string // of updates
}

// quick tracks what a plain update of one version changes, as the library does, but for a fraction of its cost. It
// answers false, and has changed nothing, when the case is not a plain one.
func (t *Tracker) quick(w apiserver.Tracked, live, changed api.Object, manager string) bool {
	gvk := kindOf(w)
	before, after, ok := t.sameVersion(w, live, changed)
	if !ok {
		return false
	}
	s := t.types.shapeOf(gvk, reflect.TypeOf(after))
	if s == nil {
		return false
	}
	u := &quickUpdate{
		sets: &t.sets, shape: s, version: gvk.GroupVersion().String(),
		self: ownerID{manager: manager, subresource: w.Subresource, version: gvk.GroupVersion().String()},
	}
	if !u.decode(w, live, changed) {
		return false
	}
	if len(u.owners) == 0 && live != nil && live.GetUID() != "" {
		changed.SetManagedFields(nil) // nobody has ever tracked it
		return true
	}
	if !u.fit(func(set *fieldpath.Set) bool { return t.types.fits(gvk, before, set) }) {
		return false
	}
	if !u.apply(compareObjects(s, before, after), t.resets(w)) {
		return false
	}
	changed.SetManagedFields(u.entries())
	return true
}

// sameVersion returns both objects in the written version.
func (t *Tracker) sameVersion(w apiserver.Tracked, live, changed api.Object) (before, after api.Object, ok bool) {
	for i := range w.Resource.Versions {
		v := &w.Resource.Versions[i]
		if v.Version != w.Version {
			continue
		}
		if _, free := changed.(*unstructured.Unstructured); free || v.FromHub != nil {
			return nil, nil, false
		}
		if live == nil {
			live = v.New()
		}
		return live, changed, reflect.TypeOf(live) == reflect.TypeOf(changed)
	}
	return nil, nil, false
}

// A quickUpdate is the tracking of one update.
type quickUpdate struct {
	sets    *fieldSets
	shape   *shape
	version string
	self    ownerID
	owners  []owner
}

// decode reads who owned what. A subresource takes that from the live object; otherwise the request may change it.
func (u *quickUpdate) decode(w apiserver.Tracked, live, changed api.Object) bool {
	var former []metav1.ManagedFieldsEntry
	if live != nil {
		former = live.GetManagedFields()
	}
	if w.Subresource != "" {
		return u.read(former)
	}
	given := changed.GetManagedFields()
	if given != nil && (len(given) == 0 || len(given) == 1 && reflect.DeepEqual(given[0], metav1.ManagedFieldsEntry{})) {
		return true // a reset
	}
	if len(given) == 0 {
		given = former
	}
	return u.read(given)
}

// read decodes entries that are all of the written version.
func (u *quickUpdate) read(entries []metav1.ManagedFieldsEntry) bool {
	for i := range entries {
		e := &entries[i]
		applied := e.Operation == metav1.ManagedFieldsOperationApply
		if !applied && e.Operation != metav1.ManagedFieldsOperationUpdate || e.APIVersion != u.version || e.FieldsType != "FieldsV1" {
			return false
		}
		fields, err := u.sets.decode(e.FieldsV1)
		if err != nil || fields.set.Empty() {
			return false
		}
		o := owner{ownerID{manager: e.Manager, subresource: e.Subresource, applied: applied}, fields, e.Time}
		if !applied {
			o.id.version = e.APIVersion
		}
		if u.find(o.id) != nil {
			return false
		}
		u.owners = append(u.owners, o)
	}
	return true
}

func (u *quickUpdate) find(id ownerID) *owner {
	for i := range u.owners {
		if u.owners[i].id == id {
			return &u.owners[i]
		}
	}
	return nil
}

// fit tells whether all sets fit the schema as it is now.
func (u *quickUpdate) fit(check func(*fieldpath.Set) bool) bool {
	for i := range u.owners {
		f := u.owners[i].fields
		if !f.fits(u.shape, func() bool { return check(f.set) }) {
			return false
		}
	}
	return true
}

// stripped are fields that nobody owns.
var stripped = fieldpath.NewSet(
	fieldpath.MakePathOrDie("apiVersion"),
	fieldpath.MakePathOrDie("kind"),
	fieldpath.MakePathOrDie("metadata"),
	fieldpath.MakePathOrDie("metadata", "name"),
	fieldpath.MakePathOrDie("metadata", "namespace"),
	fieldpath.MakePathOrDie("metadata", "creationTimestamp"),
	fieldpath.MakePathOrDie("metadata", "selfLink"),
	fieldpath.MakePathOrDie("metadata", "uid"),
	fieldpath.MakePathOrDie("metadata", "clusterName"),
	fieldpath.MakePathOrDie("metadata", "generation"),
	fieldpath.MakePathOrDie("metadata", "managedFields"),
	fieldpath.MakePathOrDie("metadata", "resourceVersion"),
)

// apply takes what changed from those who owned it and gives it to the manager. It may change owners even if it
// answers false.
func (u *quickUpdate) apply(c *comparison, reset fieldpath.Filter) bool {
	if !c.ok {
		return false
	}
	// The library filters what others lose, and what the manager gains, but not what it loses itself: the same here,
	// since the manager begins with nothing.
	lost, gained := c.removed, c.modified.Union(c.added)
	if reset != nil {
		lost, gained = reset.Filter(lost), reset.Filter(gained)
	}
	own := gained.Difference(stripped)
	me := u.find(u.self)
	for i := range u.owners {
		o := &u.owners[i]
		set := o.fields.set
		if o == me {
			// Whatever it loses as gained by the operation comes back below.
			if set = without(set, lost); !own.Empty() && !own.Difference(set).Empty() {
				set = set.Union(own)
			}
			set = without(set, gained.Difference(own))
		} else {
			set = without(without(set, gained), lost)
		}
		if !u.change(o, set) {
			return false
		}
	}
	if !own.Empty() {
		if me == nil {
			fields, err := u.sets.encode(own)
			if err != nil {
				return false
			}
			u.owners = append(u.owners, owner{id: u.self, fields: fields})
			me = &u.owners[len(u.owners)-1]
		}
		me.time = &metav1.Time{Time: time.Now().UTC()}
	}
	u.owners = slices.DeleteFunc(u.owners, func(o owner) bool { return o.fields.set.Empty() })
	updaters := 0
	for i := range u.owners {
		if !u.owners[i].id.applied {
			updaters++
		}
	}
	return updaters <= maxUpdaters
}

// without is the difference of two sets; it is the first set itself if that has nothing of the second.
func without(set, other *fieldpath.Set) *fieldpath.Set {
	if other.Empty() || set.Intersection(other).Empty() {
		return set
	}
	return set.Difference(other)
}

// change gives an owner another set.
func (u *quickUpdate) change(o *owner, set *fieldpath.Set) bool {
	if set == o.fields.set {
		return true
	}
	fields, err := u.sets.encode(set)
	if err != nil {
		return false
	}
	o.fields = fields
	return true
}

// entries are the owners in their order.
func (u *quickUpdate) entries() []metav1.ManagedFieldsEntry {
	if len(u.owners) == 0 {
		return nil
	}
	out := make([]metav1.ManagedFieldsEntry, len(u.owners))
	for i := range u.owners {
		o := &u.owners[i]
		e := &out[i]
		*e = metav1.ManagedFieldsEntry{
			Manager: o.id.manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: u.version, Time: o.time,
			FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{}, Subresource: o.id.subresource,
		}
		if o.id.applied {
			e.Operation = metav1.ManagedFieldsOperationApply
		}
		e.FieldsV1.SetRawBytes(o.fields.raw)
	}
	slices.SortFunc(out, func(a, b metav1.ManagedFieldsEntry) int {
		return cmp.Or(
			cmp.Compare(a.Operation, b.Operation), cmp.Compare(seconds(a.Time), seconds(b.Time)), cmp.Compare(a.Manager, b.Manager),
			cmp.Compare(a.APIVersion, b.APIVersion), cmp.Compare(a.Subresource, b.Subresource),
		)
	})
	return out
}

func seconds(t *metav1.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}

// shapeOf returns the shape of a kind's Go type; nil if the kind has no schema.
func (t *types) shapeOf(gvk schema.GroupVersionKind, goType reflect.Type) *shape {
	p, ok := t.kinds[gvk]
	if !ok {
		return nil
	}
	return t.shapes.of(goType, p.Schema, p.TypeRef)
}

// fits tells whether a set fits the schema of a kind: an older release may have known a list as atomic.
func (t *types) fits(gvk schema.GroupVersionKind, o api.Object, set *fieldpath.Set) bool {
	v, err := t.of(gvk).FromStructured(o, typed.AllowDuplicates)
	if err != nil {
		return false
	}
	reconciled, err := typed.ReconcileFieldSetWithSchema(set, v)
	return err == nil && reconciled == nil
}
