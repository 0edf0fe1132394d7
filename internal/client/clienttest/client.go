package clienttest

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes/scheme"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
)

// Client is an in-memory client.Client. All methods may be called concurrently.
type Client struct {
	mu        sync.Mutex
	revision  int64
	objects   map[schema.GroupResource]map[key]*item
	log       []event
	changed   chan struct{} // closed and replaced at each change
	writes    []Write
	intercept func(Write) error
	subs      map[string]SubHandler
	served    []client.KindInfo
}

type key struct{ namespace, name string }

type event struct {
	resource schema.GroupResource
	client.Change
}

// Write is one call that changes something. For Intercept it is also a Get ("get") or List ("list").
type Write struct {
	Verb        string // "create", "update", "patch", "delete", "deletecollection"
	Resource    schema.GroupVersionResource
	Subresource string
	Namespace   string
	Name        string
	Object      runtime.Object // what was sent; nil for deletes
	Patch       []byte
}

// SubHandler serves a POST to a subresource.
type SubHandler func(ctx context.Context, namespace, name string, body runtime.Object) (runtime.Object, error)

var _ client.Client = (*Client)(nil)

// New returns a client that holds copies of the objects, as they are: with their status, and with a UID and
// resourceVersion where they have none. It panics for an object whose type is not part of Kubernetes' API.
func New(objects ...client.Object) *Client {
	c := &Client{
		objects: map[schema.GroupResource]map[key]*item{},
		changed: make(chan struct{}),
		subs:    map[string]SubHandler{},
	}
	for _, o := range objects {
		if _, err := c.put(ResourceOf(o), o.DeepCopyObject().(client.Object)); err != nil {
			panic(err)
		}
	}
	return c
}

// ResourceOf returns the resource that an object's Go type belongs to.
func ResourceOf(o runtime.Object) schema.GroupVersionResource {
	kinds, _, err := scheme.Scheme.ObjectKinds(o)
	if err != nil {
		panic(fmt.Sprintf("find the kind of %T: %v", o, err))
	}
	gvr, _ := meta.UnsafeGuessKindToResource(kinds[0])
	return gvr
}

// Writes returns what was written so far, in order.
func (c *Client) Writes() []Write {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Write(nil), c.writes...)
}

// Intercept calls fn before each call; an error from it is that call's result. Nil removes it.
func (c *Client) Intercept(fn func(Write) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.intercept = fn
}

// HandleSub serves POSTs to a subresource, named as "serviceaccounts/token".
func (c *Client) HandleSub(name string, fn SubHandler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[name] = fn
}

// Serve sets what Kinds returns; the default is every registered row.
func (c *Client) Serve(kinds []client.KindInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served = kinds
	close(c.changed)
	c.changed = make(chan struct{})
}

// Revision returns the revision of the last write.
func (c *Client) Revision() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revision
}

// note tells the caller of a write what the last revision is: the write's own, or a later one.
func (c *Client) note(ctx context.Context) { client.Note(ctx, c.Revision()) }

func (c *Client) before(w Write) error {
	c.mu.Lock()
	fn := c.intercept
	if w.Verb != "get" && w.Verb != "list" {
		c.writes = append(c.writes, w)
	}
	c.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(w)
}

// Get returns the object; it is shared and read-only.
func (c *Client) Get(_ context.Context, gvr schema.GroupVersionResource, namespace, name string) (client.Object, error) {
	if err := c.before(Write{Verb: "get", Resource: gvr, Namespace: namespace, Name: name}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	it := c.objects[gvr.GroupResource()][key{namespace, name}]
	if it == nil {
		return nil, apierrors.NewNotFound(gvr.GroupResource(), name)
	}
	return it.Object(), nil
}

// List returns the objects in key order.
func (c *Client) List(_ context.Context, gvr schema.GroupVersionResource, namespace string, selector labels.Selector) ([]client.Object, error) {
	if err := c.before(Write{Verb: "list", Resource: gvr, Namespace: namespace}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return decode(c.items(gvr.GroupResource(), client.Selection{Namespace: namespace, Labels: selector})), nil
}

// Create stores a copy of the object, with its status.
func (c *Client) Create(ctx context.Context, gvr schema.GroupVersionResource, obj client.Object, opts metav1.CreateOptions) (client.Object, error) {
	defer c.note(ctx)
	obj = obj.DeepCopyObject().(client.Object)
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(obj.GetGenerateName() + rand.String(5))
	}
	if err := c.before(Write{Verb: "create", Resource: gvr, Namespace: obj.GetNamespace(), Name: obj.GetName(), Object: obj}); err != nil {
		return nil, err
	}
	if obj.GetResourceVersion() != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	c.mu.Lock()
	_, exists := c.objects[gvr.GroupResource()][key{obj.GetNamespace(), obj.GetName()}]
	c.mu.Unlock()
	if exists {
		return nil, apierrors.NewAlreadyExists(gvr.GroupResource(), obj.GetName())
	}
	if len(opts.DryRun) > 0 {
		return obj, nil
	}
	return c.put(gvr, obj)
}

// put stores obj, which becomes the client's.
func (c *Client) put(gvr schema.GroupVersionResource, obj client.Object) (client.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if obj.GetUID() == "" {
		obj.SetUID(types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", c.revision+1)))
	}
	if created := obj.GetCreationTimestamp(); created.IsZero() {
		obj.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	}
	return c.store(gvr, obj), nil
}

// store writes obj and tells the views; the caller holds mu.
func (c *Client) store(gvr schema.GroupVersionResource, obj client.Object) client.Object {
	gr := gvr.GroupResource()
	c.revision++
	obj.SetResourceVersion(strconv.FormatInt(c.revision, 10))
	k := key{obj.GetNamespace(), obj.GetName()}
	if c.objects[gr] == nil {
		c.objects[gr] = map[key]*item{}
	}
	ev := event{resource: gr, Change: client.Change{Revision: c.revision}}
	if old := c.objects[gr][k]; old != nil {
		ev.Old = old
	}
	it := &item{client.NewDecoded(obj, c.revision), gr}
	ev.New = it
	c.objects[gr][k] = it
	c.announce(ev)
	return obj
}

// remove takes an object away; the caller holds mu.
func (c *Client) remove(gr schema.GroupResource, it *item) {
	c.revision++
	delete(c.objects[gr], key{it.Namespace(), it.Name()})
	c.announce(event{resource: gr, Change: client.Change{Old: it, Revision: c.revision}})
}

func (c *Client) announce(ev event) {
	c.log = append(c.log, ev)
	close(c.changed)
	c.changed = make(chan struct{})
}

// Update writes the object, or its status: an update of one leaves the other as it was.
func (c *Client) Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj client.Object, opts metav1.UpdateOptions) (client.Object, error) {
	defer c.note(ctx)
	obj = obj.DeepCopyObject().(client.Object)
	if err := c.before(Write{Verb: "update", Resource: gvr, Subresource: subresource, Namespace: obj.GetNamespace(), Name: obj.GetName(), Object: obj}); err != nil {
		return nil, err
	}
	return c.update(gvr, subresource, obj, len(opts.DryRun) > 0)
}

func (c *Client) update(gvr schema.GroupVersionResource, subresource string, obj client.Object, dryRun bool) (client.Object, error) {
	gr := gvr.GroupResource()
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.objects[gr][key{obj.GetNamespace(), obj.GetName()}]
	if old == nil {
		return nil, apierrors.NewNotFound(gr, obj.GetName())
	}
	if rv := obj.GetResourceVersion(); rv != "" && rv != old.Object().GetResourceVersion() {
		return nil, conflict(gr, obj.GetName())
	}
	if uid := obj.GetUID(); uid != "" && uid != old.UID() {
		return nil, apierrors.NewConflict(gr, obj.GetName(), fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, old.UID()))
	}
	switch subresource {
	case "status":
		next := old.Object().DeepCopyObject().(client.Object)
		copyStatus(next, obj)
		obj = next
	case "":
		copyStatus(obj, old.Object())
	}
	obj.SetUID(old.UID())
	obj.SetCreationTimestamp(old.Object().GetCreationTimestamp())
	obj.SetDeletionTimestamp(old.Object().GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.Object().GetDeletionGracePeriodSeconds())
	obj.SetResourceVersion(old.Object().GetResourceVersion())
	if dryRun || reflect.DeepEqual(obj, old.Object()) {
		return obj, nil
	}
	if g := obj.GetDeletionGracePeriodSeconds(); obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) == 0 && (g == nil || *g == 0) {
		c.remove(gr, old)
		return obj, nil
	}
	return c.store(gvr, obj), nil
}

func conflict(gr schema.GroupResource, name string) error {
	return apierrors.NewConflict(gr, name, fmt.Errorf("the object has been modified; please apply your changes to the latest version and try again"))
}

// copyStatus sets to's Status field from from's, if the type has one.
func copyStatus(to, from client.Object) {
	dst := reflect.ValueOf(to).Elem().FieldByName("Status")
	if !dst.IsValid() {
		return
	}
	src := reflect.ValueOf(from.DeepCopyObject()).Elem().FieldByName("Status")
	dst.Set(src)
}

// CreateSub posts to a subresource. pods/binding and pods/eviction work by themselves; others need HandleSub.
func (c *Client) CreateSub(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, subresource string, body runtime.Object, _ metav1.CreateOptions) (runtime.Object, error) {
	defer c.note(ctx)
	if err := c.before(Write{Verb: "create", Resource: gvr, Subresource: subresource, Namespace: namespace, Name: name, Object: body}); err != nil {
		return nil, err
	}
	full := gvr.Resource + "/" + subresource
	c.mu.Lock()
	fn := c.subs[full]
	c.mu.Unlock()
	switch {
	case fn != nil:
		return fn(ctx, namespace, name, body)
	case full == "pods/binding":
		return &metav1.Status{Status: metav1.StatusSuccess}, c.bind(gvr, namespace, name, body)
	case full == "pods/eviction":
		return &metav1.Status{Status: metav1.StatusSuccess}, c.delete(gvr, namespace, name, metav1.DeleteOptions{})
	}
	return nil, apierrors.NewMethodNotSupported(schema.GroupResource{Group: gvr.Group, Resource: full}, "create")
}

// Patch applies a JSON patch, a merge patch or a strategic merge patch. An apply patch is merged like a strategic one,
// creates the object if it's absent, and tracks no owners.
func (c *Client) Patch(ctx context.Context, gvr schema.GroupVersionResource, namespace, name, subresource string, pt types.PatchType, data []byte, opts metav1.PatchOptions) (client.Object, error) {
	defer c.note(ctx)
	if err := c.before(Write{Verb: "patch", Resource: gvr, Subresource: subresource, Namespace: namespace, Name: name, Patch: data}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	old := c.objects[gvr.GroupResource()][key{namespace, name}]
	c.mu.Unlock()
	if old == nil {
		if pt != types.ApplyPatchType {
			return nil, apierrors.NewNotFound(gvr.GroupResource(), name)
		}
		obj, err := newObject(data)
		if err != nil {
			return nil, err
		}
		obj.SetNamespace(namespace)
		obj.SetName(name)
		return c.put(gvr, obj)
	}
	next, err := patched(old.Object(), pt, data)
	if err != nil {
		return nil, err
	}
	return c.update(gvr, subresource, next, len(opts.DryRun) > 0)
}

func newObject(data []byte) (client.Object, error) {
	o, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return o.(client.Object), nil
}

// Delete removes an object, or marks it as deleted while finalizers (or a pod's grace period) hold it.
func (c *Client) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error {
	defer c.note(ctx)
	if err := c.before(Write{Verb: "delete", Resource: gvr, Namespace: namespace, Name: name}); err != nil {
		return err
	}
	return c.delete(gvr, namespace, name, opts)
}

func (c *Client) delete(gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error {
	gr := gvr.GroupResource()
	c.mu.Lock()
	defer c.mu.Unlock()
	it := c.objects[gr][key{namespace, name}]
	if it == nil {
		return apierrors.NewNotFound(gr, name)
	}
	if p := opts.Preconditions; p != nil {
		if p.UID != nil && *p.UID != it.UID() {
			return apierrors.NewConflict(gr, name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", *p.UID, it.UID()))
		}
		if p.ResourceVersion != nil && *p.ResourceVersion != it.Object().GetResourceVersion() {
			return apierrors.NewConflict(gr, name, fmt.Errorf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", *p.ResourceVersion, it.Object().GetResourceVersion()))
		}
	}
	if len(opts.DryRun) > 0 {
		return nil
	}
	finalizers := it.Object().GetFinalizers()
	switch propagation(opts) {
	case metav1.DeletePropagationForeground:
		finalizers = append(finalizers[:len(finalizers):len(finalizers)], metav1.FinalizerDeleteDependents)
	case metav1.DeletePropagationOrphan:
		finalizers = append(finalizers[:len(finalizers):len(finalizers)], metav1.FinalizerOrphanDependents)
	}
	g := grace(it.Object(), opts)
	if len(finalizers) == 0 && g == 0 {
		c.remove(gr, it)
		return nil
	}
	if before := it.Object().GetDeletionGracePeriodSeconds(); it.Deleting() && (before == nil || *before <= g) {
		return nil
	}
	next, now := it.Object().DeepCopyObject().(client.Object), metav1.NewTime(time.Now().Truncate(time.Second))
	next.SetDeletionTimestamp(&now)
	next.SetDeletionGracePeriodSeconds(&g)
	next.SetFinalizers(finalizers)
	c.store(gvr, next)
	return nil
}

func propagation(opts metav1.DeleteOptions) metav1.DeletionPropagation {
	if opts.PropagationPolicy == nil {
		return metav1.DeletePropagationBackground
	}
	return *opts.PropagationPolicy
}

// grace is what a kubelet is given to stop a pod; 0 for everything else.
func grace(o client.Object, opts metav1.DeleteOptions) int64 {
	pod, ok := o.(*corev1.Pod)
	switch {
	case !ok || pod.Spec.NodeName == "":
		return 0
	case opts.GracePeriodSeconds != nil:
		return *opts.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

// DeleteCollection deletes what the label and field selectors of list select.
func (c *Client) DeleteCollection(ctx context.Context, gvr schema.GroupVersionResource, namespace string, opts metav1.DeleteOptions, list metav1.ListOptions) error {
	defer c.note(ctx)
	if err := c.before(Write{Verb: "deletecollection", Resource: gvr, Namespace: namespace}); err != nil {
		return err
	}
	sel, err := labels.Parse(list.LabelSelector)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	c.mu.Lock()
	items := c.items(gvr.GroupResource(), client.Selection{Namespace: namespace, Labels: sel})
	c.mu.Unlock()
	for _, it := range items {
		ok, err := fieldsMatch(it, list.FieldSelector)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		if !ok {
			continue
		}
		if err := c.delete(gvr, it.Namespace(), it.Name(), opts); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// Kinds returns what Serve set, or every registered row in its first version.
func (c *Client) Kinds(ctx context.Context, changed func()) []client.KindInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	if changed != nil {
		go c.tellServed(ctx, len(c.served), changed)
	}
	if c.served != nil {
		return append([]client.KindInfo(nil), c.served...)
	}
	var out []client.KindInfo
	for _, r := range api.Registered() {
		out = append(out, client.KindInfo{
			GroupVersionResource: schema.GroupVersionResource{Group: r.Group, Version: r.Versions[0].Version, Resource: r.Name},
			Kind:                 r.Kind,
			Namespaced:           r.Namespaced,
			Verbs:                r.Verbs,
		})
	}
	return out
}

// tellServed calls changed whenever the number of served kinds differs from what it was.
func (c *Client) tellServed(ctx context.Context, n int, changed func()) {
	for {
		c.mu.Lock()
		now, wake := len(c.served), c.changed
		c.mu.Unlock()
		if now != n {
			n = now
			changed()
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
	}
}

// toJSON is a JSON rendering for patches; it panics on what cannot be an API object.
func toJSON(o runtime.Object) []byte {
	data, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", o, err))
	}
	return data
}
