package garbagecollector

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// watch follows all kinds and turns their changes into keys until ctx ends.
func (r *reconciler) watch(ctx context.Context, add func(controller.Key)) error {
	changed := make(chan struct{}, 1)
	served := r.client.Kinds(ctx, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	var followers sync.WaitGroup
	defer followers.Wait()
	for {
		added := r.kinds.refresh(ctx, served)
		for _, one := range added {
			if err := one.view.WaitFor(ctx, 0); err != nil {
				return err
			}
		}
		for _, one := range added {
			followers.Go(func() {
				// It ends when its kind is no longer served, or ctx ends.
				_ = one.view.Subscribe(ctx, func(c client.Change) { r.keys(one, c, add) })
			})
		}
		r.reconsider(added, add)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			served = r.client.Kinds(ctx, nil)
		}
	}
}

// reconsider queues the objects whose owners are of kinds that weren't served before.
func (r *reconciler) reconsider(added []*kind, add func(controller.Key)) {
	isNew := map[schema.GroupKind]bool{}
	for _, one := range added {
		isNew[schema.GroupKind{Group: one.info.GroupVersionResource.Group, Kind: one.info.Kind}] = true
	}
	for _, one := range r.kinds.all() {
		for _, it := range one.view.Items("", nil) {
			for _, ref := range it.Owners() {
				if gv, err := schema.ParseGroupVersion(ref.APIVersion); err == nil && isNew[schema.GroupKind{Group: gv.Group, Kind: ref.Kind}] && r.suspect(it) {
					add(one.key(it.Namespace(), it.Name()))
				}
			}
		}
	}
}

// keys maps a change of any object to what must be looked at: the object itself, its dependents, its owners. Most changes concern nobody.
func (r *reconciler) keys(one *kind, c client.Change, add func(controller.Key)) {
	if c.New == nil {
		r.gone(c.Old, add)
		return
	}
	self := one.key(c.New.Namespace(), c.New.Name())
	if c.Old != nil && c.Old.UID() != c.New.UID() {
		r.gone(c.Old, add)
		c.Old = nil
	}
	if c.New.Deleting() {
		add(self)
	}
	if c.Old != nil && sameOwners(c.Old.Owners(), c.New.Owners()) {
		return
	}
	if c.Old != nil {
		r.owners(c.Old, add)
	}
	if len(c.New.Owners()) > 0 && r.suspect(c.New) {
		add(self)
	}
}

// gone queues what depended on an object, and the owners that may have waited for it.
func (r *reconciler) gone(it client.Item, add func(controller.Key)) {
	for _, d := range r.kinds.dependents(string(it.UID())) {
		add(d.kind.key(d.object.GetNamespace(), d.object.GetName()))
	}
	r.owners(it, add)
}

// owners queues an object's owners that are being deleted.
func (r *reconciler) owners(it client.Item, add func(controller.Key)) {
	for _, ref := range it.Owners() {
		one, namespace, ok := r.kinds.owner(ref, it.Namespace())
		if one == nil || !ok {
			continue
		}
		if owner, there := client.Lookup(one.view, namespace, ref.Name); there && owner.UID() == ref.UID && owner.Deleting() {
			add(one.key(namespace, ref.Name))
		}
	}
}

// suspect tells whether an object may be garbage: not all of its owners are there to stay.
func (r *reconciler) suspect(it client.Item) bool {
	for _, ref := range it.Owners() {
		if r.stateOf(ref, it.Namespace()) != solid {
			return true
		}
	}
	return false
}

// stateOf looks an owner up in the cache.
func (r *reconciler) stateOf(ref metav1.OwnerReference, namespace string) ownerState {
	one, in, ok := r.kinds.owner(ref, namespace)
	switch {
	case !ok:
		return invalid
	case one == nil:
		return unknown
	}
	owner, there := client.Lookup(one.view, in, ref.Name)
	switch {
	case !there || owner.UID() != ref.UID:
		return absent
	case awaits(owner):
		return waiting
	}
	return solid
}
