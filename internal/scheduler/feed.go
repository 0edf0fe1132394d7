package scheduler

import (
	"context"
	"fmt"

	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
)

// feed is one kind that the core is told of: which view, and what a change of it means.
type feed struct {
	view    client.View
	pending int // what was there already and is still to be told
	tell    func(change client.Change, now time.Time)
}

// openFeeds opens a view for everything that the core must know.
func (s *scheduler) openFeeds(ctx context.Context) error {
	served := s.cfg.Client.Kinds(ctx, nil)
	c := s.core
	add := func(f *feed, err error) error {
		s.feeds = append(s.feeds, f)
		return err
	}
	storage := func(change func(*volumes), now time.Time) { c.setVolumes(now, change) }
	for _, err := range []error{
		add(newFeed(ctx, s, served, client.Nodes, func(old, new *corev1.Node, now time.Time) {
			if new == nil {
				c.removeNode(old.Name, now)
				return
			}
			c.setNode(new, now)
		})),
		add(newFeed(ctx, s, served, client.Pods, func(old, new *corev1.Pod, now time.Time) {
			if old != nil && (new == nil || new.UID != old.UID) {
				c.removePod(old.UID, now)
			}
			if new != nil {
				c.setPod(new, now)
			}
		})),
		add(newFeed(ctx, s, served, client.Namespaces, func(old, new *corev1.Namespace, now time.Time) {
			c.setNamespace(either(old, new).Name, new, now)
		})),
		add(newFeed(ctx, s, served, client.Services, func(old, new *corev1.Service, _ time.Time) {
			var selector labels.Set
			if new != nil {
				selector = new.Spec.Selector
			}
			o := either(old, new)
			c.cluster.setService(o.Namespace, o.Name, selector)
		})),
		add(newFeed(ctx, s, served, client.PodDisruptionBudgets, func(old, new *policyv1.PodDisruptionBudget, _ time.Time) {
			o := either(old, new)
			c.setBudget(o.Namespace, o.Name, new)
		})),
		s.openOwnerFeeds(ctx, served, add),
		s.openStorageFeeds(ctx, served, add, storage),
		s.openClaimFeeds(ctx, served, add),
	} {
		if err != nil {
			return err
		}
	}
	for _, f := range s.feeds {
		if err := f.view.WaitFor(ctx, 0); err != nil {
			return err
		}
		f.pending = len(f.view.Items("", nil))
	}
	return nil
}

// openOwnerFeeds follows the controllers whose pods are spread by default.
func (s *scheduler) openOwnerFeeds(ctx context.Context, served []client.KindInfo, add func(*feed, error) error) error {
	cluster := s.core.cluster
	if err := add(newFeed(ctx, s, served, client.ReplicationControllers, func(old, new *corev1.ReplicationController, _ time.Time) {
		var selector labels.Selector
		if new != nil {
			selector = labels.Set(new.Spec.Selector).AsSelectorPreValidated()
		}
		o := either(old, new)
		cluster.setOwner(ownerKey{"v1", "ReplicationController", o.Namespace, o.Name}, selector)
	})); err != nil {
		return err
	}
	if err := add(newFeed(ctx, s, served, client.ReplicaSets, func(old, new *appsv1.ReplicaSet, _ time.Time) {
		var selector labels.Selector
		if new != nil {
			selector = parsedSelector(new.Spec.Selector)
		}
		o := either(old, new)
		cluster.setOwner(ownerKey{"apps/v1", "ReplicaSet", o.Namespace, o.Name}, selector)
	})); err != nil {
		return err
	}
	return add(newFeed(ctx, s, served, client.StatefulSets, func(old, new *appsv1.StatefulSet, _ time.Time) {
		var selector labels.Selector
		if new != nil {
			selector = parsedSelector(new.Spec.Selector)
		}
		o := either(old, new)
		cluster.setOwner(ownerKey{"apps/v1", "StatefulSet", o.Namespace, o.Name}, selector)
	}))
}

// openStorageFeeds follows what decides where volumes can be had.
func (s *scheduler) openStorageFeeds(ctx context.Context, served []client.KindInfo, add func(*feed, error) error, tell func(func(*volumes), time.Time)) error {
	for _, err := range []error{
		add(newFeed(ctx, s, served, client.PersistentVolumeClaims, func(old, new *corev1.PersistentVolumeClaim, now time.Time) {
			o := either(old, new)
			tell(func(v *volumes) { put(v.claims, claimKey(o.Namespace, o.Name), new) }, now)
		})),
		add(newFeed(ctx, s, served, client.PersistentVolumes, func(old, new *corev1.PersistentVolume, now time.Time) {
			tell(func(v *volumes) { put(v.volumes, either(old, new).Name, new) }, now)
		})),
		add(newFeed(ctx, s, served, client.StorageClasses, func(old, new *storagev1.StorageClass, now time.Time) {
			tell(func(v *volumes) { put(v.classes, either(old, new).Name, new) }, now)
		})),
		add(newFeed(ctx, s, served, client.CSINodes, func(old, new *storagev1.CSINode, now time.Time) {
			tell(func(v *volumes) { put(v.csiNodes, either(old, new).Name, new) }, now)
		})),
		add(newFeed(ctx, s, served, client.CSIDrivers, func(old, new *storagev1.CSIDriver, now time.Time) {
			tell(func(v *volumes) { put(v.drivers, either(old, new).Name, new) }, now)
		})),
		add(newFeed(ctx, s, served, client.CSIStorageCapacities, func(old, new *storagev1.CSIStorageCapacity, now time.Time) {
			o := either(old, new)
			tell(func(v *volumes) { put(v.capacities, claimKey(o.Namespace, o.Name), new) }, now)
		})),
		add(newFeed(ctx, s, served, client.VolumeAttachments, func(old, new *storagev1.VolumeAttachment, now time.Time) {
			tell(func(v *volumes) { put(v.attachments, either(old, new).Name, new) }, now)
		})),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// object is a pointer to an API type: what a Kind returns.
type object[T any] interface {
	*T
	client.Object
}

func newFeed[T any, P object[T]](ctx context.Context, s *scheduler, served []client.KindInfo, kind client.Kind[P], tell func(old, new P, now time.Time)) (*feed, error) {
	view, err := client.ViewIfServed(ctx, s.cfg.Client, served, kind)
	if err != nil {
		return nil, fmt.Errorf("view %s: %w", kind.GVR.Resource, err)
	}
	return &feed{view: view.View, tell: func(change client.Change, now time.Time) {
		var old, new P
		if change.Old != nil {
			old = change.Old.Object().(P)
		}
		if change.New != nil {
			new = change.New.Object().(P)
		}
		tell(old, new, now)
	}}, nil
}

func either[T any](old, new *T) *T {
	if new != nil {
		return new
	}
	return old
}

// runFeeds tells the loop of every change until ctx ends.
func (s *scheduler) runFeeds(ctx context.Context, g *errgroup.Group) {
	for _, f := range s.feeds {
		g.Go(func() error {
			return f.view.Subscribe(ctx, func(change client.Change) {
				s.send(ctx, func(now time.Time) {
					f.pending--
					f.tell(change, now)
				})
			})
		})
	}
}

// complete tells whether everything that was there has been told.
func (s *scheduler) complete() bool {
	if s.told {
		return true
	}
	for _, f := range s.feeds {
		if f.pending > 0 {
			return false
		}
	}
	s.told = true
	return true
}
