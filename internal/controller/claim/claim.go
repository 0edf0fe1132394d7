// Package claim settles which objects belong to an owner that selects them by labels: it adopts orphans that match and
// releases its own that no longer do. Pods belong to ReplicaSets that way, ReplicaSets to Deployments.
package claim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/store"
)

// Claimer claims objects of one kind for one owner.
type Claimer[T client.Object] struct {
	Client    client.Client
	Kind      client.Kind[T] // of what is claimed
	Owner     client.Object
	OwnerKind schema.GroupVersionKind
	OwnerGVR  schema.GroupVersionResource
	Selector  labels.Selector
}

// action is what becomes of one object.
type action int

const (
	ignore action = iota
	keep
	adopt
	release
)

// decide is the pure core: ref is the object's controller reference.
func decide(ref *metav1.OwnerReference, owner types.UID, ownerDeleting, matches, deleting bool) action {
	switch {
	case ref != nil && ref.UID != owner:
		return ignore
	case ref != nil && matches:
		return keep
	case ref != nil && ownerDeleting:
		return ignore
	case ref != nil:
		return release
	case ownerDeleting || !matches || deleting:
		return ignore
	}
	return adopt
}

// Candidates returns the objects of the owner's namespace that could be the owner's: those that it owns and the orphans that its
// selector accepts.
func (c *Claimer[T]) Candidates(view client.TypedView[T]) []T {
	out := view.ByIndex(store.OwnerIndex, string(c.Owner.GetUID()))
	if c.Selector.Empty() {
		return out
	}
	for _, it := range view.View.Items(c.Owner.GetNamespace(), c.Selector) {
		if controller.ControllerRef(it.Owners()) == nil {
			out = append(out, it.Object().(T))
		}
	}
	return out
}

// Claim returns those of the objects that belong to the owner, after adopting and releasing what is due. What could not be
// adopted or released is in the error, and the others are returned nevertheless.
func (c *Claimer[T]) Claim(ctx context.Context, objects []T) ([]T, error) {
	var (
		out      []T
		errs     []error
		checked  bool
		adoptErr error
	)
	deleting := c.Owner.GetDeletionTimestamp() != nil
	for _, o := range objects {
		ref := metav1.GetControllerOfNoCopy(o)
		switch decide(ref, c.Owner.GetUID(), deleting, c.Selector.Matches(labels.Set(o.GetLabels())), o.GetDeletionTimestamp() != nil) {
		case keep:
			out = append(out, o)
		case release:
			if err := c.release(ctx, o); err != nil {
				errs = append(errs, err)
			}
		case adopt:
			if !checked {
				adoptErr, checked = c.mayAdopt(ctx), true
			}
			if adoptErr != nil {
				errs = append(errs, fmt.Errorf("can't adopt %s %s/%s (%s): %w", c.Kind.GVR.Resource, o.GetNamespace(), o.GetName(), o.GetUID(), adoptErr))
				continue
			}
			adopted, err := c.adopt(ctx, o)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, adopted)
		}
	}
	return out, errors.Join(errs...)
}

// mayAdopt asks the API itself, once, whether the owner still exists and is not being deleted: an adoption by
// a stale view would tie objects to an owner that has gone.
func (c *Claimer[T]) mayAdopt(ctx context.Context) error {
	fresh, err := c.Client.Get(ctx, c.OwnerGVR, c.Owner.GetNamespace(), c.Owner.GetName())
	if err != nil {
		return err
	}
	if fresh.GetUID() != c.Owner.GetUID() {
		return fmt.Errorf("original %s %s/%s is gone: got uid %s, wanted %s", c.OwnerKind.Kind, c.Owner.GetNamespace(), c.Owner.GetName(), fresh.GetUID(), c.Owner.GetUID())
	}
	if fresh.GetDeletionTimestamp() != nil {
		return fmt.Errorf("%s/%s has just been deleted at %v", c.Owner.GetNamespace(), c.Owner.GetName(), fresh.GetDeletionTimestamp())
	}
	return nil
}

func (c *Claimer[T]) adopt(ctx context.Context, o T) (T, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":             o.GetUID(),
		"ownerReferences": []metav1.OwnerReference{*metav1.NewControllerRef(c.Owner, c.OwnerKind)},
	}})
	if err != nil {
		var none T
		return none, err
	}
	return c.Kind.Patch(ctx, c.Client, o.GetNamespace(), o.GetName(), "", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
}

func (c *Claimer[T]) release(ctx context.Context, o T) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":             o.GetUID(),
		"ownerReferences": []any{map[string]any{"$patch": "delete", "uid": c.Owner.GetUID()}},
	}})
	if err != nil {
		return err
	}
	_, err = c.Kind.Patch(ctx, c.Client, o.GetNamespace(), o.GetName(), "", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		return nil // it has gone, or another of its name is there now, or it has no owners any more
	}
	return err
}
