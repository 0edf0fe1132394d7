package managed

import (
	"fmt"
	"reflect"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

var metaType = reflect.TypeFor[metav1.ObjectMeta]()

// A shape tells how values of a Go type are compared as values of a type of the API. It is made once for each pair of
// types, so that comparing needs no look-ups.
type shape struct {
	kind   shapeKind
	entry  *value.TypeReflectCacheEntry // of the Go type
	fields []fieldShape                 // of a structure, by name
	owners *value.FieldCacheEntry       // of a structure that is metadata: its managed fields, which are no field of it
	inner  *fieldShape                  // of a list that is owned as a whole: the metadata of its items, if they are objects
	elem   *shape                       // of a dictionary's or list's items
	keys   []keyShape                   // of a keyed list's items
}

type shapeKind uint8

const (
	leaf       shapeKind = iota // is owned as a whole
	structure                   // a struct whose fields are owned apart
	dictionary                  // a map whose items are owned apart
	keyed                       // a list whose items are told apart by some of their fields
	set                         // a list of different scalars
	unknown                     // can't be compared without the library, unless it is the same
)

// A fieldShape is one field of a structure.
type fieldShape struct {
	name  *string
	entry *value.FieldCacheEntry
	shape *shape
}

// maxKeys is the number of keys that an item may have.
const maxKeys = 3

// A keyShape is one of the fields that tell a list's items apart.
type keyShape struct {
	name     string
	entry    *value.FieldCacheEntry
	fallback value.Value // of the absent field; nil if there is none
}

// shapes makes and keeps shapes.
type shapes struct {
	mu   sync.Mutex
	made map[shapeKey]*shape
}

type shapeKey struct {
	goType reflect.Type
	ref    smd.TypeRef
}

// of returns the shape of a Go type as a type of a schema.
func (s *shapes) of(t reflect.Type, schema *smd.Schema, ref smd.TypeRef) *shape {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil {
		s.made = map[shapeKey]*shape{}
	}
	return s.make(t, schema, ref)
}

func (s *shapes) make(t reflect.Type, schema *smd.Schema, ref smd.TypeRef) *shape {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	key := shapeKey{t, ref}
	if made := s.made[key]; made != nil {
		return made
	}
	out := &shape{kind: unknown, entry: value.TypeReflectEntryOf(t)}
	s.made[key] = out // before its parts: types may contain themselves
	atom, ok := schema.Resolve(ref)
	switch {
	case !ok:
	case out.entry.CanConvertToUnstructured():
		// What becomes a scalar is one wherever scalars may be; what may become anything else is left to the library.
		if atom.Scalar != nil && atom.Map == nil && atom.List == nil || scalarTypes[t] {
			out.kind = leaf
		}
	case atom.Map != nil && atom.List == nil && atom.Scalar == nil:
		s.fillMap(out, t, schema, atom.Map)
	case atom.List != nil && atom.Map == nil && atom.Scalar == nil:
		s.fillList(out, t, schema, atom.List)
	case atom.Scalar != nil && scalar(t):
		out.kind = leaf
	}
	return out
}

// scalar tells whether a Go type is written as a string, a number or a boolean.
func scalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Float32, reflect.Float64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return true
	case reflect.Slice:
		return t.Elem().Kind() == reflect.Uint8
	}
	return false
}

func (s *shapes) fillMap(out *shape, t reflect.Type, schema *smd.Schema, m *smd.Map) {
	if m.ElementRelationship == smd.Atomic {
		out.kind = leaf
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		out.kind = structure
		for _, f := range out.entry.OrderedFields() {
			if t == metaType && f.JsonName == "managedFields" {
				out.owners = f
				continue
			}
			ref := m.ElementType
			if field, ok := m.FindField(f.JsonName); ok {
				ref = field.Type
			}
			out.fields = append(out.fields, fieldShape{&f.JsonName, f, s.make(fieldType(t, f), schema, ref)})
		}
	case reflect.Map:
		if t.Key().Kind() == reflect.String && len(m.Fields) == 0 {
			out.kind, out.elem = dictionary, s.make(t.Elem(), schema, m.ElementType)
		}
	}
}

// fieldType is the Go type of a field that may lie in an inlined struct.
func fieldType(t reflect.Type, f *value.FieldCacheEntry) reflect.Type {
	return f.GetFrom(reflect.Zero(t)).Type()
}

func (s *shapes) fillList(out *shape, t reflect.Type, schema *smd.Schema, l *smd.List) {
	if t.Kind() != reflect.Slice {
		return
	}
	item := t.Elem()
	if item.Kind() == reflect.Pointer {
		item = item.Elem()
	}
	if l.ElementRelationship == smd.Atomic {
		out.kind = leaf
		out.inner = s.metaOf(item, schema, l.ElementType)
		return
	}
	switch {
	case l.ElementRelationship != smd.Associative:
	case len(l.Keys) == 0 && scalar(item):
		out.kind, out.elem = set, s.make(item, schema, l.ElementType)
	case len(l.Keys) > 0 && len(l.Keys) <= maxKeys && item.Kind() == reflect.Struct:
		keys, err := keysOf(item, schema, l)
		if err == nil {
			out.kind, out.elem, out.keys = keyed, s.make(item, schema, l.ElementType), keys
		}
	}
}

// metaOf is the metadata of a Go type that is an object; nil if it is none.
func (s *shapes) metaOf(t reflect.Type, schema *smd.Schema, ref smd.TypeRef) *fieldShape {
	if t.Kind() != reflect.Struct || t == metaType {
		return nil
	}
	parts := s.make(t, schema, ref)
	for i := range parts.fields {
		if f := &parts.fields[i]; f.shape.owners != nil {
			return f
		}
	}
	return nil
}

func keysOf(item reflect.Type, schema *smd.Schema, l *smd.List) ([]keyShape, error) {
	atom, ok := schema.Resolve(l.ElementType)
	if !ok || atom.Map == nil {
		return nil, fmt.Errorf("the items of %v have no fields", item)
	}
	entry := value.TypeReflectEntryOf(item)
	var out []keyShape
	for _, name := range l.Keys {
		f := entry.Fields()[name]
		if f == nil || !keyable(fieldType(item, f)) {
			return nil, fmt.Errorf("%v has no scalar field %s", item, name)
		}
		key := keyShape{name: name, entry: f}
		if field, ok := atom.Map.FindField(name); ok && field.Default != nil {
			key.fallback = value.NewValueInterface(field.Default)
		}
		out = append(out, key)
	}
	return out, nil
}

// keyable tells whether a Go type can be a key: a scalar, or a pointer to one.
func keyable(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String, reflect.Int32, reflect.Int64, reflect.Int:
		return !value.TypeReflectEntryOf(t).CanConvertToUnstructured()
	}
	return false
}
