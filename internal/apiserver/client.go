package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/request"
	"clipper.dev/clipper/internal/client"
)

// A localClient is one user's way to the API inside the process.
type localClient struct {
	s    *Server
	user api.UserInfo
}

// Client returns a client that acts as a user. Its reads come from the cache; its writes take the same path as
// those of any other client, authorization included. Users of the group system:masters are not asked for leave.
func (s *Server) Client(user api.UserInfo) client.Client {
	c := &localClient{s, user}
	if s.cfg.Auditor != nil {
		return auditedClient{c}
	}
	return c
}

// begin checks that the user may do something and returns the context to do it in.
func (c *localClient) begin(ctx context.Context, verb string, gvr schema.GroupVersionResource, sub, namespace, name string) (context.Context, target, error) {
	return c.beginSelected(ctx, verb, gvr, sub, namespace, name, "", "")
}

// beginSelected is begin for what is narrowed by selectors, which authorizers see.
func (c *localClient) beginSelected(ctx context.Context, verb string, gvr schema.GroupVersionResource, sub, namespace, name, fieldSelector, labelSelector string) (context.Context, target, error) {
	v, ok := c.s.catalog.Load().lookup(gvr)
	if !ok {
		return ctx, target{}, errUnserved
	}
	if !v.row.Namespaced {
		namespace = ""
		if gvr.Group == "" && gvr.Resource == "namespaces" {
			namespace = name // a namespace lies in itself, as upstream's authorizers see it
		}
	}
	if !privileged(c.user) {
		info := &request.Info{
			IsResource: true, Verb: verb, Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource, Subresource: sub, Namespace: namespace, Name: name,
			FieldSelector: fieldSelector, LabelSelector: labelSelector,
		}
		reason, err := c.s.decide(ctx, attributesOf(info, infoOf(c.user)))
		auditDecision(recordOf(ctx), reason, err)
		if err != nil {
			return ctx, target{}, undecided(err)
		}
	}
	if !v.row.Namespaced {
		namespace = ""
	}
	ctx = withCall(ctx, &call{user: c.user, agent: agentOf(c.user), verb: verb, internal: true, record: recordOf(ctx)})
	return ctx, target{v: v, sub: sub, namespace: namespace, name: name}, nil
}

// objectOut is a document in the version that the caller named.
func objectOut(t target, d *document) (api.Object, error) {
	hub, err := d.object()
	if err != nil {
		return nil, err
	}
	return t.v.fromHub(hub)
}

// objectIn makes a hub object of the engine's own from a caller's.
func objectIn(t target, obj api.Object) (api.Object, error) {
	return t.v.accept(obj.DeepCopyObject().(api.Object))
}

// Get implements client.Client.
func (c *localClient) Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (api.Object, error) {
	ctx, t, err := c.begin(ctx, "get", gvr, "", namespace, name)
	if err != nil {
		return nil, err
	}
	if t.v.virtual() {
		return nil, errMethod
	}
	e, err := c.s.get(ctx, t, "")
	if err != nil {
		return nil, err
	}
	return objectOut(t, documentOf(e))
}

// List implements client.Client.
func (c *localClient) List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, selector labels.Selector) ([]api.Object, error) {
	ctx, t, err := c.begin(ctx, "list", gvr, "", namespace, "")
	if err != nil {
		return nil, err
	}
	if t.v.virtual() {
		return nil, errMethod
	}
	ch, err := newChoice(t.v, t.namespace, "", "")
	if err != nil {
		return nil, err
	}
	if selector != nil {
		ch.labels = selector
	}
	p, err := c.s.list(ctx, t.v, ch, &metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := make([]api.Object, len(p.entries))
	for i, e := range p.entries {
		if out[i], err = objectOut(t, documentOf(e)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Create implements client.Client.
func (c *localClient) Create(ctx context.Context, gvr schema.GroupVersionResource, obj api.Object, opts metav1.CreateOptions) (api.Object, error) {
	ctx, t, err := c.begin(ctx, "create", gvr, "", obj.GetNamespace(), "")
	if err != nil {
		return nil, err
	}
	hub, err := objectIn(t, obj)
	if err != nil {
		return nil, err
	}
	if !t.v.virtual() {
		doc, err := c.s.create(ctx, t, hub, &opts)
		if err != nil {
			return nil, err
		}
		return objectOut(t, doc)
	}
	out, err := c.s.createVirtual(ctx, t, hub, &opts)
	if err != nil {
		return nil, err
	}
	if o, ok := out.(api.Object); ok {
		return o, nil
	}
	return obj, nil // a Status of success says nothing about the object
}

// Update implements client.Client.
func (c *localClient) Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj api.Object, opts metav1.UpdateOptions) (api.Object, error) {
	ctx, t, err := c.begin(ctx, "update", gvr, subresource, obj.GetNamespace(), obj.GetName())
	if err != nil {
		return nil, err
	}
	if t.v.virtual() || (subresource != "" && !t.v.serves(subresource)) {
		return nil, errUnserved
	}
	if subresource == "scale" {
		return c.updateScale(ctx, t, obj, &opts)
	}
	doc, _, err := c.s.put(ctx, t, func() (api.Object, error) { return objectIn(t, obj) }, &opts)
	if err != nil {
		return nil, err
	}
	return objectOut(t, doc)
}

func (c *localClient) updateScale(ctx context.Context, t target, obj api.Object, opts *metav1.UpdateOptions) (api.Object, error) {
	scale, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("expected a Scale, got %T", obj))
	}
	doc, err := c.s.putScale(ctx, t, scale.DeepCopy(), opts)
	if err != nil {
		return nil, err
	}
	hub, err := doc.object()
	if err != nil {
		return nil, err
	}
	return scaleOf(t.v.row, hub)
}

// Delete implements client.Client.
func (c *localClient) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error {
	ctx, t, err := c.begin(ctx, "delete", gvr, "", namespace, name)
	if err != nil {
		return err
	}
	if t.v.virtual() {
		return errMethod
	}
	_, err = c.s.remove(ctx, t, &opts)
	return err
}

// CreateSub implements client.Client.
func (c *localClient) CreateSub(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, subresource string, body runtime.Object, opts metav1.CreateOptions) (runtime.Object, error) {
	ctx, t, err := c.begin(ctx, "create", gvr, subresource, namespace, name)
	if err != nil {
		return nil, err
	}
	sub := t.subresource()
	if sub == nil {
		return nil, errUnserved
	}
	return c.s.createSub(ctx, t, sub, body.DeepCopyObject(), &opts)
}

// Patch implements client.Client.
func (c *localClient) Patch(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, subresource string, pt types.PatchType, data []byte, opts metav1.PatchOptions) (api.Object, error) {
	ctx, t, err := c.begin(ctx, "patch", gvr, subresource, namespace, name)
	if err != nil {
		return nil, err
	}
	if t.v.virtual() || (subresource != "" && !t.v.serves(subresource)) {
		return nil, errUnserved
	}
	p := patchRequest{pt, data, &opts}
	if subresource != "scale" {
		doc, _, err := c.s.patch(ctx, t, p)
		if err != nil {
			return nil, err
		}
		return objectOut(t, doc)
	}
	doc, err := c.s.scalePatched(ctx, t, p)
	if err != nil {
		return nil, err
	}
	hub, err := doc.object()
	if err != nil {
		return nil, err
	}
	return scaleOf(t.v.row, hub)
}

// DeleteCollection implements client.Client.
func (c *localClient) DeleteCollection(ctx context.Context, gvr schema.GroupVersionResource, namespace string, opts metav1.DeleteOptions, list metav1.ListOptions) error {
	ctx, t, err := c.beginSelected(ctx, "deletecollection", gvr, "", namespace, "", list.FieldSelector, list.LabelSelector)
	if err != nil {
		return err
	}
	if t.v.virtual() {
		return errMethod
	}
	chosen, err := t.chosen(&list)
	if err != nil {
		return err
	}
	_, err = c.s.removeCollection(ctx, t, chosen, &list, &opts)
	return err
}

// View implements client.Client.
func (c *localClient) View(ctx context.Context, gvr schema.GroupVersionResource, sel client.Selection) (client.View, error) {
	var fieldSelector, labelSelector string
	if sel.Field != "" {
		fieldSelector = fields.OneTermEqualSelector(sel.Field, sel.Value).String()
	}
	if sel.Labels != nil {
		labelSelector = sel.Labels.String()
	}
	_, t, err := c.beginSelected(ctx, "watch", gvr, "", sel.Namespace, sel.Name, fieldSelector, labelSelector)
	if err != nil {
		return nil, err
	}
	if t.v.virtual() {
		return nil, errMethod
	}
	if sel.Field != "" && !slices.Contains(t.v.row.Indexed, sel.Field) {
		return nil, errors.New("a view can select by indexed fields only: " + sel.Field)
	}
	return &view{s: c.s, v: t.v, sel: sel}, nil
}

// Kinds implements client.Client.
func (c *localClient) Kinds(ctx context.Context, changed func()) []client.KindInfo {
	if changed != nil {
		c.s.onCatalogChange(ctx, changed)
	}
	var out []client.KindInfo
	for _, r := range c.s.catalog.Load().resources {
		v := r.versions[0]
		out = append(out, client.KindInfo{GroupVersionResource: v.gvr, Kind: r.row.Kind, Namespaced: r.row.Namespaced, Verbs: r.verbs()})
	}
	return out
}

// onCatalogChange calls fn after every change of what is served, until ctx ends.
func (s *Server) onCatalogChange(ctx context.Context, fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.nextID
	s.nextID++
	s.watchers[id] = fn
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, id)
	})
}
