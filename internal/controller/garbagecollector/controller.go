package garbagecollector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
)

type reconciler struct {
	client client.Client
	events *events.Recorder
	kinds  kinds

	mu  sync.Mutex
	add func(controller.Key) // queues a key; set while the watches run
}

// New makes the controller.
func New(_ context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("garbage-collector-controller"),
		kinds: kinds{client: env.Client, log: env.Logger, byGR: map[schema.GroupResource]*kind{}, byKind: map[schema.GroupKind]*kind{}, failures: newFailures()}}
	if err := env.Register(r.kinds.failures); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name:      "garbage_collector",
		Workers:   20,
		Outputs:   []string{"*"},
		Reconcile: r.reconcile,
		Source: func(ctx context.Context, add func(controller.Key)) error {
			r.mu.Lock()
			r.add = add
			r.mu.Unlock()
			return r.watch(ctx, add)
		},
	}, nil
}

func (r *reconciler) queue(key controller.Key) {
	r.mu.Lock()
	add := r.add
	r.mu.Unlock()
	add(key)
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	one, name := r.kinds.resolve(key)
	if one == nil {
		return controller.Again{}, nil
	}
	// The cache may not show yet what this key's last reconciliation wrote; a fresh object makes that harmless.
	object, err := r.client.Get(ctx, one.info.GroupVersionResource, key.Namespace, name)
	if apierrors.IsNotFound(err) {
		return controller.Again{}, nil
	}
	if err != nil {
		return controller.Again{}, err
	}
	if object.GetDeletionTimestamp() == nil {
		err = r.collect(ctx, one, object)
	} else {
		err = r.finish(ctx, one, object)
	}
	if apierrors.IsNotFound(err) {
		err = nil // somebody else was faster
	}
	return controller.Again{}, err
}

// finish does what a deletion waits for.
func (r *reconciler) finish(ctx context.Context, one *kind, object client.Object) error {
	uid := object.GetUID()
	if slices.Contains(object.GetFinalizers(), metav1.FinalizerOrphanDependents) {
		var errs []error
		for _, d := range r.kinds.dependents(string(uid)) {
			if err := r.disown(ctx, d.kind, d.object, func(ref metav1.OwnerReference) bool { return ref.UID == uid }); err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("orphan the dependents: %w", err)
		}
		return r.unhold(ctx, one, object, metav1.FinalizerOrphanDependents)
	}
	if !slices.Contains(object.GetFinalizers(), metav1.FinalizerDeleteDependents) {
		return nil
	}
	blocked := false
	for _, d := range r.kinds.dependents(string(uid)) {
		blocked = blocked || blocks(d.object, uid)
		if !slices.Contains(d.object.GetFinalizers(), metav1.FinalizerDeleteDependents) || d.object.GetDeletionTimestamp() == nil {
			r.queue(d.kind.key(d.object.GetNamespace(), d.object.GetName()))
		}
	}
	if blocked {
		return nil
	}
	return r.unhold(ctx, one, object, metav1.FinalizerDeleteDependents)
}

// collect deletes an object if it is garbage.
func (r *reconciler) collect(ctx context.Context, one *kind, object client.Object) error {
	refs := object.GetOwnerReferences()
	states := make([]ownerState, len(refs))
	for i, ref := range refs {
		state, err := r.confirm(ctx, ref, object.GetNamespace())
		if err != nil {
			return err
		}
		states[i] = state
		if state == invalid {
			r.events.Eventf(reference(one, object), corev1.EventTypeWarning, "OwnerRefInvalidNamespace", "ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace %q",
				ref.APIVersion, ref.Kind, object.GetNamespace(), ref.Name, ref.UID, object.GetNamespace())
		}
	}
	dependents, circle := false, false
	if slices.Contains(states, waiting) {
		for _, d := range r.kinds.dependents(string(object.GetUID())) {
			dependents = true
			circle = circle || d.object.GetDeletionTimestamp() != nil && slices.Contains(d.object.GetFinalizers(), metav1.FinalizerDeleteDependents)
		}
	}
	switch decide(states, dependents, circle) {
	case dropRefs:
		return r.disown(ctx, one, object, func(ref metav1.OwnerReference) bool {
			i := slices.IndexFunc(refs, func(o metav1.OwnerReference) bool { return o.UID == ref.UID })
			return i >= 0 && states[i] != solid
		})
	case unblock:
		next, err := r.stopBlocking(ctx, one, object)
		if err != nil {
			return err
		}
		return r.delete(ctx, one, next, metav1.DeletePropagationForeground)
	case removeFor:
		return r.delete(ctx, one, object, metav1.DeletePropagationForeground)
	case remove:
		return r.delete(ctx, one, object, policyOf(object))
	}
	return nil
}

// confirm looks an owner up in the cache, and asks the API itself before it takes an owner for absent.
func (r *reconciler) confirm(ctx context.Context, ref metav1.OwnerReference, namespace string) (ownerState, error) {
	state := r.stateOf(ref, namespace)
	if state != absent {
		return state, nil
	}
	one, in, _ := r.kinds.owner(ref, namespace)
	if one == nil {
		return unknown, nil
	}
	owner, err := r.client.Get(ctx, one.info.GroupVersionResource, in, ref.Name)
	switch {
	case apierrors.IsNotFound(err):
		return absent, nil
	case err != nil:
		return unknown, err
	case owner.GetUID() != ref.UID:
		return absent, nil
	case owner.GetDeletionTimestamp() != nil && slices.Contains(owner.GetFinalizers(), metav1.FinalizerDeleteDependents):
		return waiting, nil
	}
	return solid, nil
}

// delete deletes the object as it was judged: if it has changed since, it is judged anew.
func (r *reconciler) delete(ctx context.Context, one *kind, object client.Object, policy metav1.DeletionPropagation) error {
	uid, revision := object.GetUID(), object.GetResourceVersion()
	return r.client.Delete(ctx, one.info.GroupVersionResource, object.GetNamespace(), object.GetName(), metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &revision}, PropagationPolicy: &policy})
}

// disown takes owner references away.
func (r *reconciler) disown(ctx context.Context, one *kind, object client.Object, drop func(metav1.OwnerReference) bool) error {
	left := slices.DeleteFunc(slices.Clone(object.GetOwnerReferences()), drop)
	_, err := r.patch(ctx, one, object, map[string]any{"ownerReferences": orNull(left)})
	return err
}

// stopBlocking lets the owners of an object go before the object itself.
func (r *reconciler) stopBlocking(ctx context.Context, one *kind, object client.Object) (client.Object, error) {
	refs := slices.Clone(object.GetOwnerReferences())
	for i := range refs {
		if refs[i].BlockOwnerDeletion != nil {
			refs[i].BlockOwnerDeletion = new(bool)
		}
	}
	return r.patch(ctx, one, object, map[string]any{"ownerReferences": refs})
}

// unhold takes a finalizer away.
func (r *reconciler) unhold(ctx context.Context, one *kind, object client.Object, finalizer string) error {
	left := slices.DeleteFunc(slices.Clone(object.GetFinalizers()), func(f string) bool { return f == finalizer })
	_, err := r.patch(ctx, one, object, map[string]any{"finalizers": orNull(left)})
	return err
}

// patch changes metadata of the object as it was read.
func (r *reconciler) patch(ctx context.Context, one *kind, object client.Object, metadata map[string]any) (client.Object, error) {
	metadata["uid"], metadata["resourceVersion"] = object.GetUID(), object.GetResourceVersion()
	data, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return nil, err
	}
	return r.client.Patch(ctx, one.info.GroupVersionResource, object.GetNamespace(), object.GetName(), "", types.MergePatchType, data, metav1.PatchOptions{})
}

// orNull makes an empty list null, which removes the field.
func orNull[T any](list []T) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

func reference(one *kind, o client.Object) *corev1.ObjectReference {
	gvr := one.info.GroupVersionResource
	return &corev1.ObjectReference{APIVersion: gvr.GroupVersion().String(), Kind: one.info.Kind, Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID()}
}
