package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/authz/rbac"
	"clipper.dev/clipper/internal/client"
)

// parallelWrites is how many objects are written at once: etcd syncs its log once for all of them.
const parallelWrites = 64

// maxAttempts bounds how often a write is tried anew when another server's came first.
const maxAttempts = 5

// Apply makes the objects of every cluster exist, but for those of priority and fairness. The client acts for a member of system:masters. Kinds that aren't served are passed
// over. When az is not nil, Apply returns once it knows all roles and bindings.
func Apply(ctx context.Context, c client.Client, az *rbac.Authorizer) error {
	o, err := Load()
	if err != nil {
		return err
	}
	served := c.Kinds(ctx, nil)
	if err := apply(ctx, c, served, corev1.SchemeGroupVersion.WithResource("namespaces"), o.Namespaces, reconcileNamespace); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	rbacGV, scheduling := rbacv1.SchemeGroupVersion, schedulingv1.SchemeGroupVersion
	for _, work := range []func() error{
		func() error {
			return apply(gctx, c, served, rbacGV.WithResource("clusterroles"), o.ClusterRoles, reconcileClusterRole)
		},
		func() error {
			return apply(gctx, c, served, rbacGV.WithResource("clusterrolebindings"), o.ClusterRoleBindings, reconcileClusterRoleBinding)
		},
		func() error { return apply(gctx, c, served, rbacGV.WithResource("roles"), o.Roles, reconcileRole) },
		func() error {
			return apply(gctx, c, served, rbacGV.WithResource("rolebindings"), o.RoleBindings, reconcileRoleBinding)
		},
		func() error {
			return apply(gctx, c, served, scheduling.WithResource("priorityclasses"), o.PriorityClasses, reconcilePriorityClass)
		},
	} {
		g.Go(work)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return await(ctx, az, o)
}

// await returns once the authorizer knows all roles and bindings.
func await(ctx context.Context, az *rbac.Authorizer, o *Objects) error {
	if az == nil {
		return nil
	}
	var err error
	for _, r := range o.ClusterRoles {
		err = errors.Join(err, az.WaitForRole(ctx, "", r.Name))
	}
	for _, r := range o.Roles {
		err = errors.Join(err, az.WaitForRole(ctx, r.Namespace, r.Name))
	}
	for _, b := range o.ClusterRoleBindings {
		err = errors.Join(err, az.WaitForBinding(ctx, "", b.Name))
	}
	for _, b := range o.RoleBindings {
		err = errors.Join(err, az.WaitForBinding(ctx, b.Namespace, b.Name))
	}
	return err
}

// apply makes the objects of one kind exist.
func apply[T client.Object](ctx context.Context, c client.Client, served []client.KindInfo, gvr schema.GroupVersionResource, want []T, reconcile func(have, want T) action) error {
	if !slices.ContainsFunc(served, func(k client.KindInfo) bool { return k.GroupVersionResource.GroupResource() == gvr.GroupResource() }) {
		return nil
	}
	kind := client.Kind[T]{GVR: gvr}
	stored, err := kind.List(ctx, c, "", nil)
	if err != nil {
		return fmt.Errorf("list %s: %w", gvr.Resource, err)
	}
	type key struct{ namespace, name string }
	have := make(map[key]T, len(stored))
	for _, o := range stored {
		have[key{o.GetNamespace(), o.GetName()}] = o
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelWrites)
	for _, w := range want {
		g.Go(func() error {
			h, exists := have[key{w.GetNamespace(), w.GetName()}]
			err := applyOne(ctx, c, kind, h, exists, w, reconcile)
			if err != nil {
				return fmt.Errorf("bootstrap %s %s: %w", gvr.Resource, w.GetName(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

// applyOne makes one object exist, looking anew whenever somebody else changed it meanwhile.
func applyOne[T client.Object](ctx context.Context, c client.Client, kind client.Kind[T], have T, exists bool, want T, reconcile func(have, want T) action) error {
	var err error
	for range maxAttempts {
		if err = write(ctx, c, kind, have, exists, want, reconcile); !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return err
		}
		have, err = kind.Get(ctx, c, want.GetNamespace(), want.GetName())
		exists = err == nil
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return err
}

func write[T client.Object](ctx context.Context, c client.Client, kind client.Kind[T], have T, exists bool, want T, reconcile func(have, want T) action) error {
	if !exists {
		_, err := kind.Create(ctx, c, want)
		return err
	}
	next := have.DeepCopyObject().(T)
	switch reconcile(next, want) {
	case update:
		_, err := kind.Update(ctx, c, next)
		return err
	case replace:
		uid := have.GetUID()
		if err := kind.Delete(ctx, c, have.GetNamespace(), have.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		_, err := kind.Create(ctx, c, want)
		return err
	}
	return nil
}
