package crd

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
)

// recheck is how often what is left of a deleted definition's objects is counted, beside each time that one goes away.
const recheck = time.Second

// clean begins to remove the objects of a definition that is being deleted, unless that is under way.
func (m *Manager) clean(ctx context.Context, g *errgroup.Group, d *definition) {
	if !slices.Contains(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		return
	}
	m.mu.Lock()
	under := m.cleaning[d.Name]
	m.cleaning[d.Name] = true
	s := m.serving[d.Name]
	m.mu.Unlock()
	if under {
		return
	}
	g.Go(func() error {
		err := m.removeObjects(ctx, d, s)
		m.mu.Lock()
		delete(m.cleaning, d.Name)
		m.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			m.cfg.Logger.Warn("the objects of a deleted definition are not all gone", "definition", d.Name, "error", err)
			m.queue.AddRateLimited(d.Name)
		}
		return nil
	})
}

func (m *Manager) removeObjects(ctx context.Context, d *definition, s *served) error {
	done := condition{Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionFalse, Reason: "InstanceDeletionCompleted", Message: "removed all instances"}
	if s == nil {
		done.Reason, done.Message = "NeverEstablished", "resource was never established"
		return m.finish(ctx, d.Name, done)
	}
	if err := m.mark(ctx, d.Name, condition{
		Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, Reason: "InstanceDeletionInProgress", Message: "CustomResource deletion is in progress",
	}); err != nil {
		return err
	}
	gvr, ok, err := m.reachable(ctx, s)
	if err != nil {
		return err
	}
	if ok {
		if err := m.removeAll(ctx, gvr); err != nil {
			_ = m.mark(ctx, d.Name, condition{
				Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, Reason: "InstanceDeletionFailed",
				Message: fmt.Sprintf("could not issue all deletes: %v", err),
			})
			return err
		}
	}
	return m.finish(ctx, d.Name, done)
}

// reachable finds a version by which the objects can be reached. A definition that serves none is served by its storage version
// for as long as it takes to remove them.
func (m *Manager) reachable(ctx context.Context, s *served) (kschema.GroupVersionResource, bool, error) {
	names := s.definition.Status.AcceptedNames
	gvr := kschema.GroupVersionResource{Group: s.definition.Spec.Group, Resource: names.Plural}
	if s.row != nil {
		for _, v := range s.row.Versions {
			if !v.StoredOnly {
				gvr.Version = v.Version
				return gvr, true, nil
			}
		}
	}
	if gvr.Version = storageVersion(s.definition); gvr.Version == "" {
		return gvr, false, nil
	}
	d := s.definition.DeepCopy()
	for i := range d.Spec.Versions {
		d.Spec.Versions[i].Served = d.Spec.Versions[i].Storage
	}
	again := serve(d, m.cfg.Hooks, m.conversions)
	again.terminating.Store(true)
	if err := m.cfg.Server.ReplaceRow(ctx, again.row); err != nil {
		return gvr, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	again.definition = s.definition
	m.serving[s.definition.Name] = again
	return gvr, true, nil
}

// removeAll deletes all objects and waits until they are gone.
func (m *Manager) removeAll(ctx context.Context, gvr kschema.GroupVersionResource) error {
	view, err := m.cfg.Client.View(ctx, gvr, client.Selection{})
	if err != nil {
		return err
	}
	// A create that was admitted before the definition was marked is in storage by now, or not at all.
	if _, err := m.cfg.Client.List(ctx, gvr, "", nil); err != nil {
		return err
	}
	for _, item := range view.Items("", nil) {
		if item.Deleting() {
			continue
		}
		if err := m.cfg.Client.Delete(ctx, gvr, item.Namespace(), item.Name(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return m.awaitNone(ctx, view)
}

func (m *Manager) awaitNone(ctx context.Context, view client.View) error {
	ctx, cancel := context.WithCancel(ctx)
	gone := make(chan struct{}, 1)
	var g errgroup.Group
	g.Go(func() error {
		return view.Subscribe(ctx, func(c client.Change) {
			if c.New != nil {
				return
			}
			select {
			case gone <- struct{}{}:
			default:
			}
		})
	})
	defer func() {
		cancel()
		_ = g.Wait() // it ends with what it was told to
	}()
	ticker := time.NewTicker(recheck)
	defer ticker.Stop()
	for len(view.Items("", nil)) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-gone:
		case <-ticker.C:
		}
	}
	return nil
}

// mark sets a condition of a definition.
func (m *Manager) mark(ctx context.Context, name string, c condition) error {
	return m.change(ctx, name, func(d *definition) error {
		apihelpers.SetCRDCondition(d, c)
		_, err := Definitions.UpdateStatus(ctx, m.cfg.Client, d)
		return err
	})
}

// finish tells how it ended and lets the definition go.
func (m *Manager) finish(ctx context.Context, name string, c condition) error {
	if err := m.mark(ctx, name, c); err != nil {
		return err
	}
	return m.change(ctx, name, func(d *definition) error {
		apihelpers.CRDRemoveFinalizer(d, apiextensionsv1.CustomResourceCleanupFinalizer)
		_, err := Definitions.Update(ctx, m.cfg.Client, d)
		return err
	})
}

// change tries a write until nobody else has written meanwhile.
func (m *Manager) change(ctx context.Context, name string, write func(*definition) error) error {
	for {
		d, err := Definitions.Get(ctx, m.cfg.Client, "", name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if err = write(d.DeepCopy()); !apierrors.IsConflict(err) {
			return err
		}
	}
}
