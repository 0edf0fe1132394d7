package client

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Kind gives a resource its Go type: client.Pods.Get(ctx, c, ns, name) returns a *corev1.Pod.
type Kind[T Object] struct {
	GVR schema.GroupVersionResource
}

// The kinds that code inside uses.
var (
	Pods                   = kindOf[*corev1.Pod](corev1.SchemeGroupVersion, "pods")
	Nodes                  = kindOf[*corev1.Node](corev1.SchemeGroupVersion, "nodes")
	Services               = kindOf[*corev1.Service](corev1.SchemeGroupVersion, "services")
	Namespaces             = kindOf[*corev1.Namespace](corev1.SchemeGroupVersion, "namespaces")
	Secrets                = kindOf[*corev1.Secret](corev1.SchemeGroupVersion, "secrets")
	ConfigMaps             = kindOf[*corev1.ConfigMap](corev1.SchemeGroupVersion, "configmaps")
	ServiceAccounts        = kindOf[*corev1.ServiceAccount](corev1.SchemeGroupVersion, "serviceaccounts")
	Endpoints              = kindOf[*corev1.Endpoints](corev1.SchemeGroupVersion, "endpoints")
	ReplicationControllers = kindOf[*corev1.ReplicationController](corev1.SchemeGroupVersion, "replicationcontrollers")
	Deployments            = kindOf[*appsv1.Deployment](appsv1.SchemeGroupVersion, "deployments")
	ReplicaSets            = kindOf[*appsv1.ReplicaSet](appsv1.SchemeGroupVersion, "replicasets")
)

func kindOf[T Object](gv schema.GroupVersion, resource string) Kind[T] {
	return Kind[T]{GVR: gv.WithResource(resource)}
}

// Get reads one object, as fresh as a linearizable read.
func (k Kind[T]) Get(ctx context.Context, c Client, namespace, name string) (T, error) {
	o, err := c.Get(ctx, k.GVR, namespace, name)
	return cast[T](o, err)
}

// List reads the objects of a namespace ("" is all) that the selector (nil is all) accepts.
func (k Kind[T]) List(ctx context.Context, c Client, namespace string, selector labels.Selector) ([]T, error) {
	list, err := c.List(ctx, k.GVR, namespace, selector)
	if err != nil {
		return nil, err
	}
	return castAll[T](list), nil
}

// Create stores a new object and returns it as stored.
func (k Kind[T]) Create(ctx context.Context, c Client, obj T) (T, error) {
	o, err := c.Create(ctx, k.GVR, obj, metav1.CreateOptions{})
	return cast[T](o, err)
}

// Update writes the object; its resourceVersion, if set, must still be current.
func (k Kind[T]) Update(ctx context.Context, c Client, obj T) (T, error) {
	o, err := c.Update(ctx, k.GVR, "", obj, metav1.UpdateOptions{})
	return cast[T](o, err)
}

// UpdateStatus writes the object's status alone.
func (k Kind[T]) UpdateStatus(ctx context.Context, c Client, obj T) (T, error) {
	o, err := c.Update(ctx, k.GVR, "status", obj, metav1.UpdateOptions{})
	return cast[T](o, err)
}

// CreateSub posts a body to a subresource.
func (k Kind[T]) CreateSub(ctx context.Context, c Client, namespace, name, subresource string, body runtime.Object) (runtime.Object, error) {
	return c.CreateSub(ctx, k.GVR, namespace, name, subresource, body, metav1.CreateOptions{})
}

// Patch patches an object, or one of its subresources.
func (k Kind[T]) Patch(ctx context.Context, c Client, namespace, name, subresource string, pt types.PatchType, data []byte, opts metav1.PatchOptions) (T, error) {
	o, err := c.Patch(ctx, k.GVR, namespace, name, subresource, pt, data, opts)
	return cast[T](o, err)
}

// Delete deletes an object.
func (k Kind[T]) Delete(ctx context.Context, c Client, namespace, name string, opts metav1.DeleteOptions) error {
	return c.Delete(ctx, k.GVR, namespace, name, opts)
}

// View opens a live set of the kind's objects.
func (k Kind[T]) View(ctx context.Context, c Client, sel Selection) (TypedView[T], error) {
	v, err := c.View(ctx, k.GVR, sel)
	return TypedView[T]{v}, err
}

// Opening opens one view for Open.
type Opening func(context.Context, Client) error

// Into says where Open puts the view of all the kind's objects.
func (k Kind[T]) Into(v *TypedView[T]) Opening { return k.SelectedInto(v, Selection{}) }

// SelectedInto says where Open puts a view of some of the kind's objects.
func (k Kind[T]) SelectedInto(v *TypedView[T], sel Selection) Opening {
	return func(ctx context.Context, c Client) (err error) {
		*v, err = k.View(ctx, c, sel)
		return err
	}
}

// Open opens views, up to the first that fails.
func Open(ctx context.Context, c Client, views ...Opening) error {
	for _, open := range views {
		if err := open(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// TypedView is a View that returns the kind's Go type.
type TypedView[T Object] struct {
	View View
}

// Get returns the object; false if it isn't there.
func (v TypedView[T]) Get(namespace, name string) (T, bool) {
	o, ok := v.View.Get(namespace, name)
	if !ok {
		var zero T
		return zero, false
	}
	return o.(T), true
}

// List returns the objects of a namespace ("" is all) that the selector (nil is all) accepts, in key order.
func (v TypedView[T]) List(namespace string, selector labels.Selector) []T {
	return castAll[T](v.View.List(namespace, selector))
}

// ByIndex returns the objects with that value of an index.
func (v TypedView[T]) ByIndex(index, value string) []T {
	return castAll[T](v.View.ByIndex(index, value))
}

// Subscribe calls fn for every object and then for every change; see View. old or new is the zero value where there is none.
func (v TypedView[T]) Subscribe(ctx context.Context, fn func(old, new T)) error {
	return v.View.Subscribe(ctx, func(c Change) {
		var before, after T
		if c.Old != nil {
			before = c.Old.Object().(T)
		}
		if c.New != nil {
			after = c.New.Object().(T)
		}
		fn(before, after)
	})
}

func cast[T Object](o Object, err error) (T, error) {
	if err != nil {
		var zero T
		return zero, err
	}
	return o.(T), nil
}

func castAll[T Object](in []Object) []T {
	out := make([]T, len(in))
	for i, o := range in {
		out[i] = o.(T)
	}
	return out
}
