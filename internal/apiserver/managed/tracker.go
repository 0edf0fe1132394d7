package managed

import (
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver"
)

// Tracker implements apiserver.FieldTracker. Make it with New.
type Tracker struct {
	types    *types
	log      *slog.Logger
	mu       sync.Mutex
	families map[string]*family // by the row's prefix, or by group and name
	managers sync.Map           // managerKey → *managedfields.FieldManager
	filters  sync.Map           // managerKey → fieldpath.Filter of the written version
	sets     fieldSets
}

// New returns a tracker for rows and for those that come later.
func New(rows []*api.Resource, log *slog.Logger) (*Tracker, error) {
	types, err := newTypes()
	if err != nil {
		return nil, fmt.Errorf("read the types of the built-in kinds: %w", err)
	}
	t := &Tracker{types: types, log: log, families: map[string]*family{}}
	for _, row := range rows {
		t.familyOf(row)
	}
	return t, nil
}

// Release lets go of what is kept only because it was used lately.
func (t *Tracker) Release() { t.sets.release() }

// familyOf returns what a row shares with the others of its table.
func (t *Tracker) familyOf(row *api.Resource) *family {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := row.Prefix
	if table == "" {
		table = row.Group + "/" + row.Name // is not stored
	}
	f := t.families[table]
	if f == nil {
		f = &family{}
		t.families[table] = f
	}
	former, added := f.add(row)
	if former != nil {
		t.forget(former)
	}
	if added {
		if err := t.types.learn(row); err != nil {
			t.log.Error("the fields of a custom resource are merged without its schema", "error", err)
		}
	}
	return f
}

// forget drops what was made for a row that another one has taken the place of.
func (t *Tracker) forget(row *api.Resource) {
	for _, made := range []*sync.Map{&t.managers, &t.filters} {
		made.Range(func(key, _ any) bool {
			if key.(managerKey).row == row {
				made.Delete(key)
			}
			return true
		})
	}
}

// A managerKey says for what a field manager is. Rows are compared by identity: a changed kind is a new row.
type managerKey struct {
	row                  *api.Resource
	version, subresource string
}

// manager returns the field manager of what is written.
func (t *Tracker) manager(w apiserver.Tracked) (*managedfields.FieldManager, error) {
	key := managerKey{w.Resource, w.Version, w.Subresource}
	if m, ok := t.managers.Load(key); ok {
		return m.(*managedfields.FieldManager), nil
	}
	f := t.familyOf(w.Resource)
	gvk := kindOf(w)
	hub := schema.GroupVersion{Group: gvk.Group, Version: runtime.APIVersionInternal}
	m, err := managedfields.NewDefaultFieldManager(t.types, f, noDefaults{}, f, gvk, hub, w.Subresource, resetFilters(f, w))
	if err != nil {
		return nil, fmt.Errorf("make the field manager of %s: %w", gvk, err)
	}
	t.managers.Store(key, m)
	return m, nil
}

func kindOf(w apiserver.Tracked) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: w.Resource.Group, Version: w.Version, Kind: w.Resource.Kind}
}

// noDefaults leaves defaulting to the engine, which does it for every write.
type noDefaults struct{}

// Default implements runtime.ObjectDefaulter.
func (noDefaults) Default(runtime.Object) {}

// resetFilters are the fields that a write never owns, because it can't change them.
func resetFilters(f *family, w apiserver.Tracked) map[fieldpath.APIVersion]fieldpath.Filter {
	paths := resetPaths(w)
	if len(paths) == 0 {
		return nil
	}
	set := fieldpath.NewSet()
	for _, path := range paths {
		var p fieldpath.Path
		for _, name := range strings.Split(path, ".") {
			p = append(p, fieldpath.PathElement{FieldName: &name})
		}
		set.Insert(p)
	}
	sets := map[fieldpath.APIVersion]*fieldpath.Set{}
	for _, m := range f.all() {
		sets[fieldpath.APIVersion(m.gvk.GroupVersion().String())] = set
	}
	return fieldpath.NewExcludeFilterSetMap(sets)
}

// resets is the filter of the written version; nil if there is none.
func (t *Tracker) resets(w apiserver.Tracked) fieldpath.Filter {
	key := managerKey{w.Resource, w.Version, w.Subresource}
	if f, ok := t.filters.Load(key); ok {
		filter, _ := f.(fieldpath.Filter)
		return filter
	}
	filter := resetFilters(t.familyOf(w.Resource), w)[fieldpath.APIVersion(kindOf(w).GroupVersion().String())]
	t.filters.Store(key, filter)
	return filter
}

func resetPaths(w apiserver.Tracked) []string {
	row := w.Resource
	if w.Own != nil {
		row = w.Own
	}
	switch w.Subresource {
	case "":
		if row.ResetFields == nil && row.Status != nil {
			return []string{"status"}
		}
		return row.ResetFields
	case "status":
		if row.Status != nil && row.Status.ResetFields != nil {
			return row.Status.ResetFields
		}
		return []string{"spec"}
	}
	for i := range row.Subresources {
		if row.Subresources[i].Name == w.Subresource {
			return row.Subresources[i].ResetFields
		}
	}
	return nil
}

// Update implements apiserver.FieldTracker.
func (t *Tracker) Update(w apiserver.Tracked, live, changed api.Object, manager string) {
	dropInvented(live, changed)
	if t.quick(w, live, changed, manager) {
		return
	}
	if crowded(reflect.ValueOf(changed)) {
		changed.SetManagedFields(nil)
		if live != nil {
			changed.SetManagedFields(live.GetManagedFields())
		}
		return
	}
	if err := t.update(w, live, changed, manager); err != nil {
		t.log.Error("the owners of an object's fields could not be told", "kind", kindOf(w), "namespace", changed.GetNamespace(), "name", changed.GetName(), "error", err)
		changed.SetManagedFields(nil)
	}
}

func (t *Tracker) update(w apiserver.Tracked, live, changed api.Object, manager string) error {
	m, err := t.manager(w)
	if err != nil {
		return err
	}
	before, err := t.orEmpty(w, live)
	if err != nil {
		return err
	}
	_, err = m.Update(before, changed, manager)
	return err
}

// orEmpty returns the live object, or an empty one of the written version.
func (t *Tracker) orEmpty(w apiserver.Tracked, live api.Object) (runtime.Object, error) {
	if live != nil {
		return live, nil
	}
	return t.familyOf(w.Resource).New(kindOf(w))
}

// Apply implements apiserver.FieldTracker.
func (t *Tracker) Apply(w apiserver.Tracked, live api.Object, patch []byte, manager string, force bool) (api.Object, error) {
	m, err := t.manager(w)
	if err != nil {
		return nil, err
	}
	before, err := t.orEmpty(w, live)
	if err != nil {
		return nil, err
	}
	config := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal(patch, &config.Object); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	if crowded(reflect.ValueOf(config.Object)) {
		return nil, tooCrowded()
	}
	after, err := m.Apply(before, config, manager, force)
	if err != nil {
		return nil, err
	}
	return t.familyOf(w.Resource).hub(after)
}

var _ apiserver.FieldTracker = (*Tracker)(nil)
