package clienttest

import (
	"cmp"
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store"
)

// item is one version of an object.
type item struct {
	client.Decoded
	resource schema.GroupResource
}

// Field returns the value of a selectable field: by the kind's row if the test links it, else by its JSON path.
func (i *item) Field(name string) string {
	if v := i.Decoded.Field(name); v != "" {
		return v
	}
	for _, r := range api.Registered() {
		if r.Group == i.resource.Group && r.Name == i.resource.Resource && r.Fields[name] != nil {
			return r.Fields[name](i.Object())
		}
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(i.Object())
	if err != nil {
		return ""
	}
	s, _, _ := unstructured.NestedString(content, strings.Split(name, ".")...)
	return s
}

func (i *item) selected(s client.Selection) bool {
	return (s.Namespace == "" || s.Namespace == i.Namespace()) &&
		(s.Name == "" || s.Name == i.Name()) &&
		(s.Labels == nil || s.Labels.Matches(i.Labels())) &&
		(s.Field == "" || i.Field(s.Field) == s.Value)
}

func fieldsMatch(it client.Item, selector string) (bool, error) {
	sel, err := fields.ParseSelector(selector)
	if err != nil {
		return false, err
	}
	for _, r := range sel.Requirements() {
		equal := it.Field(r.Field) == r.Value
		if equal == (r.Operator == "!=") {
			return false, nil
		}
	}
	return true, nil
}

// items returns what is selected, in key order; the caller holds mu.
func (c *Client) items(gr schema.GroupResource, sel client.Selection) []client.Item {
	var out []client.Item
	for _, it := range c.objects[gr] {
		if it.selected(sel) {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b client.Item) int {
		return cmp.Or(cmp.Compare(a.Namespace(), b.Namespace()), cmp.Compare(a.Name(), b.Name()))
	})
	return out
}

func decode(items []client.Item) []client.Object {
	out := make([]client.Object, len(items))
	for i, it := range items {
		out[i] = it.Object()
	}
	return out
}

// View opens a live set; it is complete at once.
func (c *Client) View(_ context.Context, gvr schema.GroupVersionResource, sel client.Selection) (client.View, error) {
	return &view{c: c, resource: gvr.GroupResource(), sel: sel}, nil
}

type view struct {
	c        *Client
	resource schema.GroupResource
	sel      client.Selection
}

func (v *view) Get(namespace, name string) (client.Object, bool) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	it := v.c.objects[v.resource][key{namespace, name}]
	if it == nil || !it.selected(v.sel) {
		return nil, false
	}
	return it.Object(), true
}

func (v *view) List(namespace string, selector labels.Selector) []client.Object {
	return decode(v.Items(namespace, selector))
}

func (v *view) Items(namespace string, selector labels.Selector) []client.Item {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	all := v.c.items(v.resource, v.sel)
	return slices.DeleteFunc(all, func(it client.Item) bool {
		return !it.(*item).selected(client.Selection{Namespace: namespace, Labels: selector})
	})
}

func (v *view) ByIndex(index, value string) []client.Object {
	all := v.Items("", nil)
	return decode(slices.DeleteFunc(all, func(it client.Item) bool {
		if index == store.OwnerIndex {
			return !slices.ContainsFunc(it.Owners(), func(o metav1.OwnerReference) bool { return string(o.UID) == value })
		}
		return it.Field(index) != value
	}))
}

// Subscribe tells what is there and then every change, as the view's selection sees it.
func (v *view) Subscribe(ctx context.Context, fn func(client.Change)) error {
	v.c.mu.Lock()
	next, revision := len(v.c.log), v.c.revision
	initial := v.c.items(v.resource, v.sel)
	v.c.mu.Unlock()
	for _, it := range initial {
		fn(client.Change{New: it, Revision: revision})
	}
	for {
		v.c.mu.Lock()
		events, wake := v.c.log[next:], v.c.changed
		next = len(v.c.log)
		v.c.mu.Unlock()
		for _, ev := range events {
			if ev.resource == v.resource {
				v.tell(ev.Change, fn)
			}
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		}
	}
}

func (v *view) tell(ch client.Change, fn func(client.Change)) {
	if ch.Old != nil && !ch.Old.(*item).selected(v.sel) {
		ch.Old = nil
	}
	if ch.New != nil && !ch.New.(*item).selected(v.sel) {
		ch.New = nil
	}
	if ch.Old != nil || ch.New != nil {
		fn(ch)
	}
}

func (v *view) Revision() int64 { return v.c.Revision() }

func (v *view) WaitFor(ctx context.Context, revision int64) error {
	for {
		v.c.mu.Lock()
		now, wake := v.c.revision, v.c.changed
		v.c.mu.Unlock()
		if now >= revision {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		}
	}
}
