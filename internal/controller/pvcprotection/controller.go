package pvcprotection

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

type reconciler struct {
	client client.Client
	claims client.TypedView[*corev1.PersistentVolumeClaim]
	pods   client.TypedView[*corev1.Pod]
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client}
	if err := client.Open(ctx, env.Client, client.PersistentVolumeClaims.Into(&r.claims), client.Pods.Into(&r.pods)); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name:      "pvcprotection",
		Inputs:    []controller.Input{{View: r.claims.View, Keys: controller.Self}, {View: r.pods.View, Keys: ofPod}},
		Outputs:   []string{"persistentvolumeclaims"},
		Reconcile: r.reconcile,
	}, nil
}

// ofPod maps a pod that has gone, or is shut down, to its claims: nothing less frees them.
func ofPod(c client.Change) []controller.Key {
	if c.Old == nil || c.New != nil && c.New.UID() == c.Old.UID() && !(c.New.Deleting() && shutDown(c.New.Object().(*corev1.Pod))) {
		return nil
	}
	var keys []controller.Key
	for _, name := range claimNames(c.Old.Object().(*corev1.Pod)) {
		keys = append(keys, controller.Key{Namespace: c.Old.Namespace(), Name: name})
	}
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	claim, ok := r.claims.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	changed := claim.DeepCopy()
	switch judge(claim) {
	case keep:
		return controller.Again{}, nil
	case protect:
		changed.Finalizers = append(changed.Finalizers, finalizer)
	case release:
		used, err := r.inUse(ctx, claim)
		if err != nil || used {
			return controller.Again{}, err
		}
		changed.Finalizers = slices.DeleteFunc(changed.Finalizers, func(f string) bool { return f == finalizer })
	}
	if _, err := client.PersistentVolumeClaims.Update(ctx, r.client, changed); err != nil && !apierrors.IsNotFound(err) {
		return controller.Again{}, fmt.Errorf("write the finalizers of claim %s: %w", key, err)
	}
	return controller.Again{}, nil
}

// inUse asks the cache, and where that knows no user, the API: a pod may have got its node just now.
func (r *reconciler) inUse(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	user := func(pod *corev1.Pod) bool { return uses(pod, claim) }
	if slices.ContainsFunc(r.pods.List(claim.Namespace, nil), user) {
		return true, nil
	}
	pods, err := client.Pods.List(ctx, r.client, claim.Namespace, nil)
	if err != nil {
		return false, fmt.Errorf("list the pods that may use claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return slices.ContainsFunc(pods, user), nil
}
