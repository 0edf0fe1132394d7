package ephemeralvolume

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
)

type reconciler struct {
	client client.Client
	events *events.Recorder
	pods   client.TypedView[*corev1.Pod]
	claims client.TypedView[*corev1.PersistentVolumeClaim]

	creates, failures prometheus.Counter
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("ephemeral_volume"), creates: counter("create_total"), failures: counter("create_failures_total")}
	if err := env.Register(r.creates, r.failures); err != nil {
		return controller.Controller{}, err
	}
	if err := client.Open(ctx, env.Client, client.Pods.Into(&r.pods), client.PersistentVolumeClaims.Into(&r.claims)); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name:      "ephemeral_volume",
		Inputs:    []controller.Input{{View: r.pods.View, Keys: ofNewPod}, {View: r.claims.View, Keys: ofLostClaim}},
		Outputs:   []string{"persistentvolumeclaims"},
		Reconcile: r.reconcile,
	}, nil
}

// counter is one of upstream's, which have the same text.
func counter(name string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Subsystem: "ephemeral_volume_controller", Name: name, Help: "Number of PersistentVolumeClaim creation requests"})
}

// ofNewPod maps a pod that has appeared: its volumes never change.
func ofNewPod(c client.Change) []controller.Key {
	if c.New == nil || c.Old != nil && c.Old.UID() == c.New.UID() || c.New.Deleting() {
		return nil
	}
	for _, v := range c.New.Object().(*corev1.Pod).Spec.Volumes {
		if v.Ephemeral != nil {
			return controller.Self(c)
		}
	}
	return nil
}

// ofLostClaim maps a claim that has gone to its pod, which needs another.
func ofLostClaim(c client.Change) []controller.Key {
	if c.New != nil {
		return nil
	}
	return controller.OwnerOf("Pod")(c)
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	pod, ok := r.pods.Get(key.Namespace, key.Name)
	if !ok || pod.DeletionTimestamp != nil {
		return controller.Again{}, nil
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Ephemeral == nil {
			continue
		}
		if err := r.ensure(ctx, pod, v); err != nil {
			r.events.Eventf(pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: %v", v.Name, err)
			return controller.Again{}, fmt.Errorf("pod %s, ephemeral volume %s: %w", key, v.Name, err)
		}
	}
	return controller.Again{}, nil
}

func (r *reconciler) ensure(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	if claim, there := r.claims.Get(pod.Namespace, ephemeral.VolumeClaimName(pod, v)); there {
		return ephemeral.VolumeIsForPod(pod, claim)
	}
	claim := claimFor(pod, v)
	r.creates.Inc()
	if _, err := client.PersistentVolumeClaims.Create(ctx, r.client, claim); err != nil {
		r.failures.Inc()
		return fmt.Errorf("create PVC %s: %w", claim.Name, err)
	}
	return nil
}
