package endpointslicemirroring

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
)

type reconciler struct {
	client    client.Client
	events    *events.Recorder
	services  client.TypedView[*corev1.Service]
	endpoints client.TypedView[*corev1.Endpoints]
	slices    client.TypedView[*discoveryv1.EndpointSlice]
	metrics   *metrics
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("endpoint-slice-mirroring-controller"), metrics: newMetrics()}
	if err := r.metrics.register(&env); err != nil {
		return controller.Controller{}, err
	}
	if err := client.Open(ctx, env.Client,
		client.Services.Into(&r.services), client.Endpoints.Into(&r.endpoints), client.EndpointSlices.Into(&r.slices),
	); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "endpoint_slice_mirroring",
		Inputs: []controller.Input{
			{View: r.services.View, Keys: controller.Self},
			{View: r.endpoints.View, Keys: controller.Self},
			{View: r.slices.View, Keys: ours},
		},
		Outputs:   []string{"discovery.k8s.io/endpointslices"},
		Reconcile: r.reconcile,
	}, nil
}

func ours(c client.Change) []controller.Key {
	for _, it := range []client.Item{c.New, c.Old} {
		if it != nil && it.Labels()[discoveryv1.LabelManagedBy] == ManagedBy {
			return []controller.Key{{Namespace: it.Namespace(), Name: it.Labels()[discoveryv1.LabelServiceName]}}
		}
	}
	return nil
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	began := time.Now()
	defer func() { r.metrics.duration.Observe(time.Since(began).Seconds()) }()
	existing := r.slices.List(key.Namespace, labels.Set{discoveryv1.LabelServiceName: key.Name, discoveryv1.LabelManagedBy: ManagedBy}.AsSelector())
	svc, hasService := r.services.Get(key.Namespace, key.Name)
	e, hasEndpoints := r.endpoints.Get(key.Namespace, key.Name)
	if !hasService || !hasEndpoints || len(svc.Spec.Selector) > 0 || !mirrored(e) {
		r.metrics.replace(key, extent{})
		return controller.Again{}, r.apply(ctx, &plan{delete: existing})
	}
	if e.DeletionTimestamp != nil {
		return controller.Again{}, nil
	}
	p := makePlan(e, existing)
	if p.skipped > 0 {
		r.events.Eventf(e, corev1.EventTypeWarning, "TooManyAddressesToMirror",
			"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", maxPerSubset, p.skipped)
	}
	r.metrics.planned(key, &p)
	err := r.apply(ctx, &p)
	if err != nil {
		r.events.Eventf(e, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating EndpointSlices for Endpoints %s/%s: %v", e.Namespace, e.Name, err)
	}
	return controller.Again{}, err
}

func (r *reconciler) apply(ctx context.Context, p *plan) error {
	var errs []error
	for _, slice := range p.create {
		_, err := client.EndpointSlices.Create(ctx, r.client, slice)
		if err == nil {
			r.metrics.changes.WithLabelValues("create").Inc()
		}
		if err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			errs = append(errs, fmt.Errorf("create a slice: %w", err))
		}
	}
	for _, slice := range p.update {
		if _, err := client.EndpointSlices.Update(ctx, r.client, slice); err != nil {
			errs = append(errs, fmt.Errorf("update slice %s: %w", slice.Name, err))
			continue
		}
		r.metrics.changes.WithLabelValues("update").Inc()
	}
	for _, slice := range p.delete {
		err := client.EndpointSlices.Delete(ctx, r.client, slice.Namespace, slice.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(slice.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete slice %s: %w", slice.Name, err))
			continue
		}
		r.metrics.changes.WithLabelValues("delete").Inc()
	}
	return errors.Join(errs...)
}
