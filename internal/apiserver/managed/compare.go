package managed

import (
	"iter"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// A comparison finds what differs between two objects of one Go type, with the same result as typed.TypedValue.Compare,
// but over the Go values themselves. ok becomes false when it meets what only the library can compare.
type comparison struct {
	added, modified, removed *fieldpath.Set
	ok                       bool

	path     []step
	elements fieldpath.Path // of the path, for inserting
}

// A step leads one level down. Its path element is made when something below it differs.
type step struct {
	made   fieldpath.PathElement
	isMade bool
	key    string        // of a dictionary's item
	item   reflect.Value // of a list
	list   *shape        // that the item is in
}

// A side is one of the two values that are compared: absent, null or something.
type side struct {
	state state
	v     reflect.Value
}

type state uint8

const (
	absent state = iota
	null
	present
)

// compareObjects compares two objects, which are pointers to structs of the shape.
func compareObjects(s *shape, before, after any) *comparison {
	c := &comparison{added: fieldpath.NewSet(), modified: fieldpath.NewSet(), removed: fieldpath.NewSet(), ok: s.kind == structure}
	if c.ok {
		c.structure(s, sideOf(reflect.ValueOf(before)), sideOf(reflect.ValueOf(after)))
	}
	return c
}

// sideOf is a value that is there; it may be null.
func sideOf(v reflect.Value) side {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return side{state: null}
		}
		return side{present, v.Elem()}
	}
	if (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.IsNil() {
		return side{state: null}
	}
	return side{present, v}
}

// differ records that the current path has changed.
func (c *comparison) differ(into *fieldpath.Set) {
	c.elements = c.elements[:0]
	for i := range c.path {
		s := &c.path[i]
		if !s.isMade {
			s.make()
		}
		c.elements = append(c.elements, s.made)
	}
	into.Insert(c.elements)
}

func (s *step) make() {
	s.isMade = true
	if s.list == nil {
		key := s.key
		s.made = fieldpath.PathElement{FieldName: &key}
		return
	}
	s.made = s.list.element(s.item)
}

// element is the path element of a list's item.
func (s *shape) element(item reflect.Value) fieldpath.PathElement {
	if s.kind == set {
		v := plain(item)
		return fieldpath.PathElement{Value: &v}
	}
	fields := make(value.FieldList, 0, len(s.keys))
	for i := range s.keys {
		k := &s.keys[i]
		v := k.entry.GetFrom(item)
		if !k.entry.CanOmit(v) {
			fields = append(fields, value.Field{Name: k.name, Value: plain(v)})
			continue
		}
		if k.fallback != nil {
			fields = append(fields, value.Field{Name: k.name, Value: k.fallback})
		}
	}
	fields.Sort()
	return fieldpath.PathElement{Key: &fields}
}

// plain copies a scalar, so that the path element does not hold the object.
func plain(v reflect.Value) value.Value {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return value.NewValueInterface(nil)
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		return value.NewValueInterface(v.String())
	case reflect.Bool:
		return value.NewValueInterface(v.Bool())
	case reflect.Float32, reflect.Float64:
		return value.NewValueInterface(v.Float())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return value.NewValueInterface(int64(v.Uint()))
	}
	return value.NewValueInterface(v.Int())
}

// values compares two values, at most one of which is absent.
func (c *comparison) values(s *shape, l, r side) {
	switch s.kind {
	case leaf:
		c.leaf(s, l, r)
		return
	case unknown:
		if l.state != r.state || !same(s.entry, l, r) {
			c.ok = false
		}
		return
	}
	if empty(s, l) && empty(s, r) {
		c.leaf(s, l, r) // keeps the difference between nothing and null
		return
	}
	switch s.kind {
	case structure:
		c.structure(s, l, r)
	case dictionary:
		c.dictionary(s, l, r)
	default:
		c.list(s, l, r)
	}
	if l.state == absent {
		c.differ(c.added)
	}
	if r.state == absent {
		c.differ(c.removed)
	}
}

func (c *comparison) leaf(s *shape, l, r side) {
	switch {
	case s.inner != nil && (s.innerOwners(l) || s.innerOwners(r)):
		c.ok = false // for the library, which refuses what is no set of fields
	case l.state == absent:
		c.differ(c.added)
	case r.state == absent:
		c.differ(c.removed)
	case l.state != r.state || l.state == present && !equal(s.entry, l.v, r.v):
		c.differ(c.modified)
	}
}

// innerOwners tells whether the items of a list that is owned as a whole say who owns what.
func (s *shape) innerOwners(x side) bool {
	if x.state != present {
		return false
	}
	for i := range x.v.Len() {
		if item := sideOf(x.v.Index(i)); item.state == present && has(s.inner.shape.owners, fieldOf(s.inner, item)) {
			return true
		}
	}
	return false
}

func same(e *value.TypeReflectCacheEntry, l, r side) bool {
	return l.state == r.state && (l.state != present || equal(e, l.v, r.v))
}

func empty(s *shape, x side) bool {
	if x.state != present {
		return true
	}
	if s.kind != structure {
		return x.v.Len() == 0
	}
	for i := range s.fields {
		if f := &s.fields[i]; !f.entry.CanOmit(f.entry.GetFrom(x.v)) {
			return false
		}
	}
	return s.owners == nil || !has(s.owners, x)
}

func (c *comparison) structure(s *shape, l, r side) {
	// Nobody owns who owns what; what templates say of it is a field like others, which nobody sets.
	if s.owners != nil && len(c.path) > 1 && (has(s.owners, l) || has(s.owners, r)) {
		c.ok = false
		return
	}
	for i := range s.fields {
		f := &s.fields[i]
		lf, rf := fieldOf(f, l), fieldOf(f, r)
		if lf.state == absent && rf.state == absent {
			continue
		}
		c.path = append(c.path, step{made: fieldpath.PathElement{FieldName: f.name}, isMade: true})
		c.values(f.shape, lf, rf)
		c.path = c.path[:len(c.path)-1]
	}
}

func has(f *value.FieldCacheEntry, x side) bool {
	return x.state == present && !f.CanOmit(f.GetFrom(x.v))
}

func fieldOf(f *fieldShape, x side) side {
	if x.state != present {
		return side{}
	}
	v := f.entry.GetFrom(x.v)
	if f.entry.CanOmit(v) {
		return side{}
	}
	return sideOf(v)
}

func (c *comparison) dictionary(s *shape, l, r side) {
	if before, after, ok := textsOf(s, l, r); ok {
		c.texts(before, after)
		return
	}
	if l.state == present {
		for _, key := range sortedKeys(l.v) {
			other := side{}
			if r.state == present {
				if v := r.v.MapIndex(key); v.IsValid() {
					other = sideOf(v)
				}
			}
			c.item(s, key.String(), sideOf(l.v.MapIndex(key)), other)
		}
	}
	if r.state != present {
		return
	}
	for _, key := range sortedKeys(r.v) {
		if l.state == present && l.v.MapIndex(key).IsValid() {
			continue
		}
		c.item(s, key.String(), side{}, sideOf(r.v.MapIndex(key)))
	}
}

// textsOf returns both sides if they are dictionaries of texts, as most are: those need no reflection.
func textsOf(s *shape, l, r side) (before, after map[string]string, ok bool) {
	if s.elem.kind != leaf {
		return nil, nil, false
	}
	if l.state == present {
		if before, ok = l.v.Interface().(map[string]string); !ok {
			return nil, nil, false
		}
	}
	if r.state == present {
		if after, ok = r.v.Interface().(map[string]string); !ok {
			return nil, nil, false
		}
	}
	return before, after, true
}

func (c *comparison) texts(before, after map[string]string) {
	var added, modified, removed []string
	for key, text := range before {
		if other, there := after[key]; !there {
			removed = append(removed, key)
		} else if other != text {
			modified = append(modified, key)
		}
	}
	for key := range after {
		if _, there := before[key]; !there {
			added = append(added, key)
		}
	}
	c.differAt(added, c.added)
	c.differAt(modified, c.modified)
	c.differAt(removed, c.removed)
}

// differAt records items of the dictionary at the current path, in order: a set grows at its end for nothing, but anywhere else for its size.
func (c *comparison) differAt(keys []string, into *fieldpath.Set) {
	slices.Sort(keys)
	for _, key := range keys {
		c.path = append(c.path, step{key: key})
		c.differ(into)
		c.path = c.path[:len(c.path)-1]
	}
}

// sortedKeys are a map's keys, those of a large one in order: a set grows at its end for nothing, but anywhere else for its size.
func sortedKeys(m reflect.Value) []reflect.Value {
	keys := m.MapKeys()
	if len(keys) > maxItems {
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	}
	return keys
}

func (c *comparison) item(s *shape, key string, l, r side) {
	c.path = append(c.path, step{key: key})
	c.values(s.elem, l, r)
	c.path = c.path[:len(c.path)-1]
}

// An itemKey tells the items of a list apart.
type itemKey [maxKeys]struct {
	set    bool
	text   string
	number int64
}

// keyOf reads an item's key; ok is false for items that the library has to judge.
func (s *shape) keyOf(item reflect.Value) (key itemKey, ok bool) {
	if s.kind == set {
		key[0].set = true
		return key, fill(&key[0].text, &key[0].number, item)
	}
	any := false
	for i := range s.keys {
		k := &s.keys[i]
		v := k.entry.GetFrom(item)
		if k.entry.CanOmit(v) {
			if k.fallback == nil {
				continue
			}
			v = reflect.ValueOf(k.fallback.Unstructured())
		}
		any, key[i].set = true, true
		if !fill(&key[i].text, &key[i].number, v) {
			return key, false
		}
	}
	return key, any
}

func fill(text *string, number *int64, v reflect.Value) bool {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return false
		}
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.String:
		*text = v.String()
	case v.CanInt():
		*number = v.Int()
	default:
		return false
	}
	return true
}

func (c *comparison) list(s *shape, l, r side) {
	before, ok := index(s, l)
	after, ok2 := index(s, r)
	if !ok || !ok2 {
		c.ok = false
		return
	}
	for i := range before.ordered(s, l.v) {
		other := side{}
		if j := after.find(before.keys[i], i); j >= 0 {
			other = sideOf(r.v.Index(j))
		}
		c.listItem(s, sideOf(l.v.Index(i)), other)
	}
	for i := range after.ordered(s, r.v) {
		if before.find(after.keys[i], i) < 0 {
			c.listItem(s, side{}, sideOf(r.v.Index(i)))
		}
	}
}

func (c *comparison) listItem(s *shape, l, r side) {
	item := l.v
	if l.state != present {
		item = r.v
	}
	c.path = append(c.path, step{item: item, list: s})
	c.values(s.elem, l, r)
	c.path = c.path[:len(c.path)-1]
}

// maxItems is the length of lists from which on finding an item by looking at all would take too long.
const maxItems = 200

// An itemIndex finds the items of a list.
type itemIndex struct {
	keys []itemKey
	at   map[itemKey]int // of a long list
}

// index reads the keys of a list's items; ok is false if two are equal.
func index(s *shape, x side) (index itemIndex, ok bool) {
	if x.state != present {
		return itemIndex{}, true
	}
	n := x.v.Len()
	index.keys = make([]itemKey, 0, n)
	if n > maxItems {
		index.at = make(map[itemKey]int, n)
	}
	for i := range n {
		item := sideOf(x.v.Index(i))
		if item.state != present {
			return index, false
		}
		key, ok := s.keyOf(item.v)
		if !ok || index.find(key, 0) >= 0 {
			return index, false
		}
		index.keys = append(index.keys, key)
		if index.at != nil {
			index.at[key] = i
		}
	}
	return index, true
}

// find looks for a key, beginning where it likely is.
func (x *itemIndex) find(key itemKey, likely int) int {
	if likely < len(x.keys) && x.keys[likely] == key {
		return likely
	}
	if x.at != nil {
		if i, there := x.at[key]; there {
			return i
		}
		return -1
	}
	return slices.Index(x.keys, key)
}

// ordered goes over the items of a list, those of a long one in the order that sets have.
func (x *itemIndex) ordered(s *shape, list reflect.Value) iter.Seq[int] {
	return func(yield func(int) bool) {
		if x.at == nil {
			for i := range x.keys {
				if !yield(i) {
					return
				}
			}
			return
		}
		elements := make([]fieldpath.PathElement, len(x.keys))
		order := make([]int, len(x.keys))
		for i := range order {
			order[i], elements[i] = i, s.element(sideOf(list.Index(i)).v)
		}
		slices.SortFunc(order, func(a, b int) int { return elements[a].Compare(elements[b]) })
		for _, i := range order {
			if !yield(i) {
				return
			}
		}
	}
}
