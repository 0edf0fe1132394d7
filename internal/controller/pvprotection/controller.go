package pvprotection

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	volumes, err := client.PersistentVolumes.View(ctx, env.Client, client.Selection{})
	if err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name:    "pvprotection",
		Inputs:  []controller.Input{{View: volumes.View, Keys: controller.Self}},
		Outputs: []string{"persistentvolumes"},
		Workers: 1,
		Reconcile: func(ctx context.Context, key controller.Key) (controller.Again, error) {
			volume, ok := volumes.Get("", key.Name)
			if !ok {
				return controller.Again{}, nil
			}
			return controller.Again{}, protect(ctx, env.Client, volume)
		},
	}, nil
}

func protect(ctx context.Context, c client.Client, volume *corev1.PersistentVolume) error {
	want, differs := finalizers(volume)
	if !differs {
		return nil
	}
	changed := volume.DeepCopy()
	changed.Finalizers = want
	if _, err := client.PersistentVolumes.Update(ctx, c, changed); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the finalizers of volume %s: %w", volume.Name, err)
	}
	return nil
}
