package endpoints

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/backends"
)

type reconciler struct {
	client    client.Client
	events    *events.Recorder
	services  client.TypedView[*corev1.Service]
	pods      client.TypedView[*corev1.Pod]
	endpoints client.TypedView[*corev1.Endpoints]
	triggers  *backends.Triggers
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("endpoint-controller"), triggers: backends.NewTriggers()}
	if err := client.Open(ctx, env.Client,
		client.Services.Into(&r.services), client.Pods.Into(&r.pods), client.Endpoints.Into(&r.endpoints),
	); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "endpoint",
		Inputs: []controller.Input{
			{View: r.services.View, Keys: controller.Self},
			{View: r.pods.View, Keys: backends.ServicesOfPod(r.services)},
			{View: r.endpoints.View, Keys: ours},
		},
		Outputs:   []string{"endpoints"},
		Reconcile: r.reconcile,
	}, nil
}

// ours maps Endpoints that this controller made to their Service: it puts right what others do to them, and removes
// what the Service's deletion left behind while nobody looked.
func ours(c client.Change) []controller.Key {
	for _, it := range []client.Item{c.Old, c.New} {
		if it != nil && it.Labels()[ManagedByLabel] == managedBy {
			return controller.Self(c)
		}
	}
	return nil
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	svc, ok := r.services.Get(key.Namespace, key.Name)
	current, exists := r.endpoints.Get(key.Namespace, key.Name)
	if !ok {
		r.triggers.Forget(key)
		if !exists {
			return controller.Again{}, nil
		}
		return controller.Again{}, r.delete(ctx, current)
	}
	if !backends.Managed(svc) {
		return controller.Again{}, nil
	}
	pods := r.pods.List(svc.Namespace, labels.SelectorFromValidatedSet(svc.Spec.Selector))
	since := r.triggers.Since(svc, pods)
	want := makePlan(svc, pods, current)
	if want == nil {
		return controller.Again{}, nil
	}
	backends.Annotate(&want.Annotations, since)
	if exists {
		if _, err := client.Endpoints.Update(ctx, r.client, want); err != nil {
			r.events.Eventf(want, corev1.EventTypeWarning, "FailedToUpdateEndpoint", "Failed to update endpoint %v/%v: %v", svc.Namespace, svc.Name, err)
			return controller.Again{}, err
		}
		return controller.Again{}, nil
	}
	_, err := client.Endpoints.Create(ctx, r.client, want)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return controller.Again{}, nil
	}
	if err != nil {
		r.events.Eventf(want, corev1.EventTypeWarning, "FailedToCreateEndpoint", "Failed to create endpoint for service %v/%v: %v", svc.Namespace, svc.Name, err)
	}
	return controller.Again{}, err
}

func (r *reconciler) delete(ctx context.Context, e *corev1.Endpoints) error {
	err := client.Endpoints.Delete(ctx, r.client, e.Namespace, e.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(e.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
