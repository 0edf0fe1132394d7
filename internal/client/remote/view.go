package remote

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/btree"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store"
)

type tree = btree.Map[string, *item]

func keyOf(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// view is the state that a stream keeps up to date.
type view struct {
	fields fieldReader

	mu       sync.RWMutex
	items    *tree
	indexes  map[string]map[string]map[string]*item // index, value, key; made when first asked for
	revision int64
	synced   bool
	moved    chan struct{} // closed and replaced whenever revision or synced change
	subs     map[*subscriber]struct{}
	waiting  int           // how many wait for a revision
	behind   chan struct{} // tells the stream that somebody waits
}

func newView(gvr schema.GroupVersionResource) *view {
	return &view{
		fields:  fieldsOf(gvr),
		items:   new(tree),
		indexes: map[string]map[string]map[string]*item{},
		moved:   make(chan struct{}),
		subs:    map[*subscriber]struct{}{},
		behind:  make(chan struct{}, 1),
	}
}

// Get returns the object by its namespace and name.
func (v *view) Get(namespace, name string) (client.Object, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	it, ok := v.items.Get(keyOf(namespace, name))
	if !ok {
		return nil, false
	}
	return it.Object(), true
}

// List returns the objects of a namespace that the selector accepts, in key order.
func (v *view) List(namespace string, selector labels.Selector) []client.Object {
	var out []client.Object
	v.each(namespace, selector, func(it *item) { out = append(out, it.Object()) })
	return out
}

// Items is List for code that needs metadata alone.
func (v *view) Items(namespace string, selector labels.Selector) []client.Item {
	var out []client.Item
	v.each(namespace, selector, func(it *item) { out = append(out, it) })
	return out
}

func (v *view) each(namespace string, selector labels.Selector, fn func(*item)) {
	prefix := ""
	if namespace != "" {
		prefix = namespace + "/"
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	v.items.Ascend(prefix, func(key string, it *item) bool {
		if !strings.HasPrefix(key, prefix) {
			return false
		}
		if selector == nil || selector.Matches(it.Labels()) {
			fn(it)
		}
		return true
	})
}

// ByIndex returns the objects with that value of an index.
func (v *view) ByIndex(index, value string) []client.Object {
	v.mu.Lock()
	defer v.mu.Unlock()
	byValue, ok := v.indexes[index]
	if !ok {
		byValue = map[string]map[string]*item{}
		v.indexes[index] = byValue
		v.items.Scan(func(key string, it *item) bool {
			v.indexAdd(index, key, it)
			return true
		})
	}
	out := make([]client.Object, 0, len(byValue[value]))
	for _, key := range slices.Sorted(maps.Keys(byValue[value])) {
		out = append(out, byValue[value][key].Object())
	}
	return out
}

func (v *view) indexAdd(index, key string, it *item) {
	for _, value := range it.indexValues(index) {
		byKey := v.indexes[index][value]
		if byKey == nil {
			byKey = map[string]*item{}
			v.indexes[index][value] = byKey
		}
		byKey[key] = it
	}
}

func (v *view) indexRemove(index, key string, it *item) {
	for _, value := range it.indexValues(index) {
		byKey := v.indexes[index][value]
		delete(byKey, key)
		if len(byKey) == 0 {
			delete(v.indexes[index], value)
		}
	}
}

func (i *item) indexValues(index string) []string {
	if index != store.OwnerIndex {
		return []string{i.Field(index)}
	}
	var uids []string
	for _, o := range i.Owners() {
		uids = append(uids, string(o.UID))
	}
	return uids
}

// Revision is what the view reflects at least.
func (v *view) Revision() int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.revision
}

// WaitFor blocks until the view reflects the revision, or with 0 until it is complete for the first time.
func (v *view) WaitFor(ctx context.Context, revision int64) error {
	v.mu.Lock()
	v.waiting++
	defer func() {
		v.mu.Lock()
		v.waiting--
		v.mu.Unlock()
	}()
	for {
		if v.synced && v.revision >= revision {
			v.mu.Unlock()
			return nil
		}
		moved := v.moved
		v.mu.Unlock()
		if revision > 0 {
			select {
			case v.behind <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
		v.mu.Lock()
	}
}

// wanted tells whether anybody waits for a revision that the view hasn't reached.
func (v *view) wanted() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.waiting > 0
}

// put takes one object in, or one that's newer.
func (v *view) put(obj client.Object, revision int64) {
	it := &item{client.NewDecoded(obj, revision), v.fields}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.set(keyOf(it.Namespace(), it.Name()), it, revision)
	v.advance(revision)
}

// remove takes an object out.
func (v *view) remove(namespace, name string, revision int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.set(keyOf(namespace, name), nil, revision)
	v.advance(revision)
}

// progress notes that everything up to the revision has come.
func (v *view) progress(revision int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.advance(revision)
}

// replace makes the view hold exactly these objects and reports the differences.
func (v *view) replace(fresh map[string]client.Object, revision int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var gone []string
	v.items.Scan(func(key string, _ *item) bool {
		if _, ok := fresh[key]; !ok {
			gone = append(gone, key)
		}
		return true
	})
	for _, key := range gone {
		v.set(key, nil, revision)
	}
	for _, key := range slices.Sorted(maps.Keys(fresh)) {
		obj := fresh[key]
		rev := revisionOf(obj)
		if old, ok := v.items.Get(key); ok && old.Revision() == rev && old.UID() == obj.GetUID() {
			continue
		}
		v.set(key, &item{client.NewDecoded(obj, rev), v.fields}, rev)
	}
	v.synced = true
	v.advance(revision)
}

// set changes one key (it is nil to remove) and tells the subscribers. Called with mu held.
func (v *view) set(key string, it *item, revision int64) {
	old, had := v.items.Get(key)
	if !had && it == nil {
		return
	}
	change := client.Change{Revision: revision}
	if had {
		change.Old = old
		for index := range v.indexes {
			v.indexRemove(index, key, old)
		}
	}
	if it != nil {
		change.New = it
		v.items.Set(key, it)
		for index := range v.indexes {
			v.indexAdd(index, key, it)
		}
	} else {
		v.items.Delete(key)
	}
	for s := range v.subs {
		s.push(change, v.items)
	}
}

// advance raises the revision and wakes who waits. Called with mu held.
func (v *view) advance(revision int64) {
	v.revision = max(v.revision, revision)
	close(v.moved)
	v.moved = make(chan struct{})
}

// Item returns the object's metadata by its namespace and name.
func (v *view) Item(namespace, name string) (client.Item, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	it, ok := v.items.Get(keyOf(namespace, name))
	if !ok {
		return nil, false
	}
	return it, true
}
