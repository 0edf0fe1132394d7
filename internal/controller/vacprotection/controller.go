package vacprotection

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

type reconciler struct {
	client  client.Client
	classes client.TypedView[*storagev1.VolumeAttributesClass]
	claims  client.TypedView[*corev1.PersistentVolumeClaim]
	volumes client.TypedView[*corev1.PersistentVolume]
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client}
	if err := client.Open(ctx, env.Client,
		client.VolumeAttributesClasses.Into(&r.classes), client.PersistentVolumeClaims.Into(&r.claims),
		client.PersistentVolumes.Into(&r.volumes),
	); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "volumeattributesclass_protection",
		Inputs: []controller.Input{
			{View: r.classes.View, Keys: controller.Self},
			{View: r.claims.View, Keys: freed(ofClaim)},
			{View: r.volumes.View, Keys: freed(ofVolume)},
		},
		Outputs:   []string{"storage.k8s.io/volumeattributesclasses"},
		Workers:   1,
		Reconcile: r.reconcile,
	}, nil
}

// freed maps a change to the classes that the object named before it.
func freed[T client.Object](classes func(T) []string) func(client.Change) []controller.Key {
	return func(c client.Change) []controller.Key {
		if c.Old == nil {
			return nil
		}
		var keys []controller.Key
		for _, name := range classes(c.Old.Object().(T)) {
			keys = append(keys, controller.Key{Name: name})
		}
		return keys
	}
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	class, ok := r.classes.Get("", key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	want, differs := finalizers(class, func() bool { return r.used(class.Name) })
	if !differs {
		return controller.Again{}, nil
	}
	changed := class.DeepCopy()
	changed.Finalizers = want
	if _, err := client.VolumeAttributesClasses.Update(ctx, r.client, changed); err != nil && !apierrors.IsNotFound(err) {
		return controller.Again{}, fmt.Errorf("write the finalizers of attributes class %s: %w", class.Name, err)
	}
	return controller.Again{}, nil
}

func (r *reconciler) used(class string) bool {
	return slices.ContainsFunc(r.volumes.List("", nil), func(v *corev1.PersistentVolume) bool { return slices.Contains(ofVolume(v), class) }) ||
		slices.ContainsFunc(r.claims.List("", nil), func(c *corev1.PersistentVolumeClaim) bool { return slices.Contains(ofClaim(c), class) })
}
