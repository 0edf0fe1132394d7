package apiserver

import (
	"context"
	"errors"
	"fmt"
	"iter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store"
)

// A view is a window on a table: it holds nothing of its own.
type view struct {
	s   *Server
	v   *version
	sel client.Selection
}

var _ client.View = (*view)(nil)

// item is a store entry, seen as a client.Item.
type item struct {
	v *version
	e *store.Entry
}

func (i item) Namespace() string               { return i.e.Record().Namespace }
func (i item) Name() string                    { return i.e.Record().Name }
func (i item) UID() types.UID                  { return i.e.Record().UID }
func (i item) Labels() labels.Set              { return i.e.Record().Labels }
func (i item) Owners() []metav1.OwnerReference { return i.e.Record().Owners }
func (i item) Deleting() bool                  { return i.e.Record().Deleting }
func (i item) Revision() int64                 { return i.e.Revision() }
func (i item) Field(name string) string        { return (*recordFields)(i.e.Record()).Get(name) }

// Object decodes the object. What the cache holds has been decoded once before, so a failure is a bug of the engine.
func (i item) Object() client.Object {
	o, err := i.decode()
	if err != nil {
		panic(fmt.Sprintf("decode the cached %s %s: %v", i.v.row.Name, i.e.Key(), err))
	}
	return o
}

func (i item) decode() (api.Object, error) { return objectOut(target{v: i.v}, documentOf(i.e)) }

// inside tells whether the view holds an object.
func (w *view) inside(r *store.Record) bool {
	if w.sel.Namespace != "" && r.Namespace != w.sel.Namespace || w.sel.Name != "" && r.Name != w.sel.Name {
		return false
	}
	if w.sel.Field != "" && (*recordFields)(r).Get(w.sel.Field) != w.sel.Value {
		return false
	}
	return w.sel.Labels == nil || w.sel.Labels.Matches(r.Labels)
}

// Get implements client.View.
func (w *view) Get(namespace, name string) (client.Object, bool) {
	e, _ := w.v.table.Get(w.v.key(namespace, name))
	if e == nil || !w.inside(e.Record()) {
		return nil, false
	}
	return item{w.v, e}.Object(), true
}

// entries are a snapshot's in a namespace that the view and a selector hold, in key order.
func (w *view) entries(snapshot store.Snapshot, namespace string, selector labels.Selector) iter.Seq[*store.Entry] {
	return func(yield func(*store.Entry) bool) {
		visit := func(e *store.Entry) bool {
			r := e.Record()
			if namespace != "" && r.Namespace != namespace || !w.inside(r) || selector != nil && !selector.Matches(r.Labels) {
				return true
			}
			return yield(e)
		}
		if w.sel.Field != "" {
			for e := range snapshot.ByIndex(w.sel.Field, w.sel.Value) {
				if !visit(e) {
					return
				}
			}
			return
		}
		prefix := ""
		if namespace == "" {
			namespace = w.sel.Namespace
		}
		if namespace != "" && w.v.row.Namespaced {
			prefix = namespace + "/"
		}
		snapshot.Ascend(prefix, "", visit)
	}
}

// List implements client.View.
func (w *view) List(namespace string, selector labels.Selector) []client.Object {
	snapshot := w.v.table.Snapshot()
	if snapshot.Count("") == 0 {
		return nil // every write asks for kinds that few clusters have any of
	}
	var out []client.Object
	for e := range w.entries(snapshot, namespace, selector) {
		out = append(out, item{w.v, e}.Object())
	}
	return out
}

// Items implements client.View.
func (w *view) Items(namespace string, selector labels.Selector) []client.Item {
	snapshot := w.v.table.Snapshot()
	if snapshot.Count("") == 0 {
		return nil
	}
	var out []client.Item
	for e := range w.entries(snapshot, namespace, selector) {
		out = append(out, item{w.v, e})
	}
	return out
}

// ByIndex implements client.View.
func (w *view) ByIndex(index, value string) []client.Object {
	var out []client.Object
	for e := range w.v.table.Snapshot().ByIndex(index, value) {
		if w.inside(e.Record()) {
			out = append(out, item{w.v, e}.Object())
		}
	}
	return out
}

// Revision implements client.View.
func (w *view) Revision() int64 { return w.s.cfg.Store.Revision() }

// WaitFor implements client.View. A table is complete before a client can see it.
func (w *view) WaitFor(ctx context.Context, revision int64) error {
	if revision == 0 {
		return nil
	}
	return w.s.cfg.Store.WaitFor(ctx, revision)
}

// subscriberBuffer is how many changes may wait for a slow subscriber before it has to be fed from the log.
const subscriberBuffer = 1 << 16

// Subscribe implements client.View. A subscriber that falls behind goes on where it was, from the log or from etcd's
// history; only one that is stuck until that is compacted gets an error. Where changes were missed it is told how the state differs.
// One that outlives the database hears nothing more.
func (w *view) Subscribe(ctx context.Context, fn func(client.Change)) error {
	o := store.WatchOptions{
		Initial: true, Namespace: w.namespace(), Name: w.sel.Name, Index: w.sel.Field, Value: w.sel.Value, Match: w.match(), Buffer: subscriberBuffer,
	}
	var former *store.Snapshot
	for {
		reached, err := w.follow(ctx, o, former, fn)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if w.s.cfg.Store.Err() != nil {
			// The database has stopped by itself: nothing changes any more, and who follows goes on with what is known.
			<-ctx.Done()
			return ctx.Err()
		}
		var gap *store.GapError
		switch {
		case errors.As(err, &gap):
			w.s.cfg.Logger.Info("a subscriber goes on from a state that was read anew", "resource", w.v.row.Name, "revision", reached)
			o.Initial, o.After, former = true, 0, &gap.Former
		case errors.Is(err, store.ErrSlow):
			w.s.cfg.Logger.Warn("a subscriber fell behind", "resource", w.v.row.Name, "revision", reached)
			o.Initial, o.After = false, reached
		default:
			return fmt.Errorf("follow %s: %w", w.v.row.Name, err)
		}
	}
}

// follow delivers how the state differs from a former one (nil: nothing), if the options ask for it, and then the changes. It returns the
// revision that it reached.
func (w *view) follow(ctx context.Context, o store.WatchOptions, former *store.Snapshot, fn func(client.Change)) (int64, error) {
	watch, err := w.v.table.Watch(ctx, o)
	if err != nil {
		return o.After, err
	}
	defer watch.Stop()
	reached := o.After
	if o.Initial {
		var entries iter.Seq[*store.Entry]
		entries, reached = watch.Initial()
		w.differences(former, entries, reached, fn)
	}
	for {
		batch, _, err := watch.Next(ctx)
		if err != nil {
			return reached, err
		}
		for _, e := range batch {
			fn(w.change(e))
			reached = e.Revision()
		}
	}
}

// differences delivers as changes what leads from a former state (nil: from nothing) to the entries of a revision.
func (w *view) differences(former *store.Snapshot, entries iter.Seq[*store.Entry], revision int64, fn func(client.Change)) {
	gone := map[string]*store.Entry{}
	if former != nil {
		for e := range w.entries(*former, "", nil) {
			gone[e.Key()] = e
		}
	}
	for e := range entries {
		c := client.Change{New: item{w.v, e}, Revision: e.Revision()}
		if old := gone[e.Key()]; old != nil {
			delete(gone, e.Key())
			if old.Revision() == e.Revision() {
				continue
			}
			c.Old = item{w.v, old}
		}
		fn(c)
	}
	for _, old := range gone {
		fn(client.Change{Old: item{w.v, old}, Revision: revision})
	}
}

// change is an event as subscribers see it.
func (w *view) change(e store.Event) client.Change {
	c := client.Change{Revision: e.Revision()}
	if e.Type != store.Added {
		c.Old = item{w.v, e.Former()}
	}
	if e.Type != store.Deleted {
		c.New = item{w.v, e.Entry()}
	}
	return c
}

func (w *view) namespace() string {
	if !w.v.row.Namespaced {
		return ""
	}
	return w.sel.Namespace
}

func (w *view) match() func(*store.Record) bool {
	if w.sel.Labels == nil || w.sel.Labels.Empty() {
		return nil
	}
	return w.inside
}
