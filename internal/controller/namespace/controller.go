package namespace

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// retryEvery bounds how long a namespace with content waits although nothing in it went away: something may have failed to delete.
const retryEvery = 15 * time.Second

// settle is when a namespace is looked at again after watches of its content were begun: something may have gone before they were.
const settle = 50 * time.Millisecond

type reconciler struct {
	client     client.Client
	namespaces client.TypedView[*corev1.Namespace]
	watches    watches
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	view, err := client.Namespaces.View(ctx, env.Client, client.Selection{})
	if err != nil {
		return controller.Controller{}, err
	}
	r := &reconciler{client: env.Client, namespaces: view}
	return controller.Controller{
		Name:      "namespace",
		Workers:   10,
		Inputs:    []controller.Input{{View: view.View, Keys: deleting}},
		Outputs:   []string{"*", "namespaces/status", "namespaces/finalize"},
		Reconcile: r.reconcile,
		Source: func(ctx context.Context, add func(controller.Key)) error {
			return r.watches.run(ctx, add)
		},
	}, nil
}

// deleting maps a namespace that's on its way out, or that has gone, to its key.
func deleting(c client.Change) []controller.Key {
	if c.New != nil && !c.New.Deleting() {
		return nil
	}
	return controller.Self(c)
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	ns, ok := r.namespaces.Get("", key.Name)
	if !ok || ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		r.watches.forget(key)
		return controller.Again{}, nil
	}
	found, err := r.empty(ctx, ns)
	if err != nil {
		return controller.Again{}, err
	}
	if found.empty() && found.touched {
		return controller.Again{After: time.Millisecond}, nil // what was deleted may have left something behind
	}
	if found.empty() {
		r.watches.forget(key)
		return controller.Again{}, r.finalize(ctx, ns)
	}
	if status, changed := withConditions(ns.Status, found.conditions(), time.Now()); changed {
		next := ns.DeepCopy()
		next.Status = status
		if _, err := client.Namespaces.UpdateStatus(ctx, r.client, next); err != nil && !apierrors.IsNotFound(err) {
			return controller.Again{}, err
		}
	}
	if len(found.failed)+len(found.unknown) > 0 {
		return controller.Again{}, fmt.Errorf("empty namespace %s: %s", ns.Name, texts(append(found.failed, found.unknown...)))
	}
	if found.watching {
		return controller.Again{After: settle}, nil
	}
	return controller.Again{After: retryEvery}, nil
}

// empty deletes what is in a namespace and tells what is left.
func (r *reconciler) empty(ctx context.Context, ns *corev1.Namespace) (*content, error) {
	// One fresh read brings all views to a revision at which no more content can be created: admission refuses it since the
	// namespace was marked.
	if _, err := client.Pods.List(ctx, r.client, ns.Name, nil); err != nil {
		return nil, err
	}
	c := &content{remaining: map[schema.GroupVersionResource]int{}, finalizers: map[string]int{}}
	views := map[schema.GroupVersionResource]client.View{}
	r.emptyKind(ctx, ns.Name, client.Pods.GVR, c, views)
	if len(c.remaining) == 0 { // the rest may be what a pod needs to end well
		for _, kind := range r.client.Kinds(ctx, nil) {
			if kind.Namespaced && kind.GroupVersionResource != client.Pods.GVR && slices.Contains(kind.Verbs, "delete") && slices.Contains(kind.Verbs, "list") {
				r.emptyKind(ctx, ns.Name, kind.GroupVersionResource, c, views)
			}
		}
	}
	c.watching = r.watches.follow(controller.Key{Name: ns.Name}, views)
	return c, nil
}

// emptyKind deletes the objects of one kind and counts those that stay for the time being.
func (r *reconciler) emptyKind(ctx context.Context, namespace string, gvr schema.GroupVersionResource, c *content, views map[schema.GroupVersionResource]client.View) {
	view, err := r.client.View(ctx, gvr, client.Selection{Namespace: namespace})
	if err != nil {
		c.unknown = append(c.unknown, fmt.Errorf("%s: %w", gvr, err))
		return
	}
	items := view.Items(namespace, nil)
	if len(items) == 0 {
		return
	}
	c.touched = true
	background := metav1.DeletePropagationBackground
	if slices.ContainsFunc(items, func(it client.Item) bool { return !it.Deleting() }) {
		var last atomic.Int64
		noted := client.WithNotes(ctx, func(revision int64) {
			client.Note(ctx, revision)
			for old := last.Load(); revision > old && !last.CompareAndSwap(old, revision); old = last.Load() {
			}
		})
		err := r.client.DeleteCollection(noted, gvr, namespace, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{})
		if err != nil {
			c.failed = append(c.failed, fmt.Errorf("%s: %w", gvr, err))
		}
		if err := view.WaitFor(ctx, last.Load()); err != nil {
			c.failed = append(c.failed, fmt.Errorf("%s: %w", gvr, err))
		}
		items = view.Items(namespace, nil)
	}
	if len(items) == 0 {
		return
	}
	c.remaining[gvr] = len(items)
	views[gvr] = view
	for _, it := range items {
		for _, f := range it.Object().GetFinalizers() {
			c.finalizers[f]++
		}
	}
}

// finalize takes the finalizer away, and with it the namespace.
func (r *reconciler) finalize(ctx context.Context, ns *corev1.Namespace) error {
	next := ns.DeepCopy()
	next.Spec.Finalizers = withoutFinalizer(next.Spec.Finalizers)
	_, err := r.client.Update(ctx, client.Namespaces.GVR, "finalize", next, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
