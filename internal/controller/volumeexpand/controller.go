package volumeexpand

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	claims, err := client.PersistentVolumeClaims.View(ctx, env.Client, client.Selection{})
	if err != nil {
		return controller.Controller{}, err
	}
	volumes, err := client.PersistentVolumes.View(ctx, env.Client, client.Selection{})
	if err != nil {
		return controller.Controller{}, err
	}
	events := env.Events("volume_expand")
	return controller.Controller{
		Name:    "volume_expand",
		Inputs:  []controller.Input{{View: claims.View, Keys: ofGrown}, {View: volumes.View}},
		Workers: 1,
		Reconcile: func(_ context.Context, key controller.Key) (controller.Again, error) {
			claim, ok := claims.Get(key.Namespace, key.Name)
			if !ok || !grows(claim) {
				return controller.Again{}, nil
			}
			volume, ok := volumes.Get("", claim.Spec.VolumeName)
			if !ok {
				return controller.Again{}, fmt.Errorf("volume %s of claim %s isn't known", claim.Spec.VolumeName, key)
			}
			if volume.Spec.ClaimRef == nil || volume.Spec.ClaimRef.UID != claim.UID {
				return controller.Again{}, fmt.Errorf("persistent Volume is not bound to PVC being updated : %s", key)
			}
			events.Event(claim, corev1.EventTypeNormal, "ExternalExpanding", "waiting for an external controller to expand this PVC")
			return controller.Again{}, nil
		},
	}, nil
}

// ofGrown maps a claim that has come to ask for more, or appears asking for more than it has.
func ofGrown(c client.Change) []controller.Key {
	if c.New == nil {
		return nil
	}
	claim := c.New.Object().(*corev1.PersistentVolumeClaim)
	if !grows(claim) || c.Old != nil && asked(c.Old.Object().(*corev1.PersistentVolumeClaim)) >= asked(claim) {
		return nil
	}
	return controller.Self(c)
}

func asked(claim *corev1.PersistentVolumeClaim) int64 {
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return size.Value()
}

func grows(claim *corev1.PersistentVolumeClaim) bool {
	have, want := claim.Status.Capacity[corev1.ResourceStorage], claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return claim.Status.Phase == corev1.ClaimBound && want.Cmp(have) > 0
}
