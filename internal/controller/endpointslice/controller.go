package endpointslice

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/backends"
)

type reconciler struct {
	client   client.Client
	events   *events.Recorder
	services client.TypedView[*corev1.Service]
	pods     client.TypedView[*corev1.Pod]
	nodes    client.TypedView[*corev1.Node]
	slices   client.TypedView[*discoveryv1.EndpointSlice]
	triggers *backends.Triggers
	metrics  *metrics
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("endpoint-slice-controller"), triggers: backends.NewTriggers(), metrics: newMetrics()}
	if err := client.Open(ctx, env.Client,
		client.Services.Into(&r.services), client.Pods.Into(&r.pods), client.Nodes.Into(&r.nodes),
		client.EndpointSlices.Into(&r.slices),
	); err != nil {
		return controller.Controller{}, err
	}
	if err := r.metrics.register(&env); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "endpoint_slice",
		Inputs: []controller.Input{
			{View: r.services.View, Keys: controller.Self},
			{View: r.pods.View, Keys: backends.ServicesOfPod(r.services)},
			{View: r.nodes.View},
			{View: r.slices.View, Keys: serviceOf},
		},
		Outputs:   []string{"discovery.k8s.io/endpointslices"},
		Reconcile: r.reconcile,
	}, nil
}

// serviceOf maps one of this controller's slices to its Service.
func serviceOf(c client.Change) []controller.Key {
	var keys []controller.Key
	for _, it := range []client.Item{c.Old, c.New} {
		if it == nil || it.Labels()[discoveryv1.LabelManagedBy] != ManagedBy {
			continue
		}
		if name := it.Labels()[discoveryv1.LabelServiceName]; name != "" {
			keys = append(keys, controller.Key{Namespace: it.Namespace(), Name: name})
		}
	}
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	svc, ok := r.services.Get(key.Namespace, key.Name)
	if !ok {
		r.triggers.Forget(key)
	}
	if !ok || !backends.Managed(svc) {
		r.metrics.replace(key, extent{})
		return controller.Again{}, nil // the slices of a Service that has gone go with it
	}
	pods := r.pods.List(svc.Namespace, labels.SelectorFromValidatedSet(svc.Spec.Selector))
	p := makePlan(state{
		service: svc,
		pods:    pods,
		slices:  r.own(svc),
		zone: func(name string) (string, bool) {
			node, ok := r.nodes.Get("", name)
			if !ok {
				return "", false
			}
			return node.Labels[corev1.LabelTopologyZone], true
		},
	})
	p.annotate(r.triggers.Since(svc, pods))
	err := r.apply(ctx, svc, &p)
	r.metrics.synced(svc, &p, err)
	if err != nil {
		r.events.Eventf(svc, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating Endpoint Slices for Service %s/%s: %v", svc.Namespace, svc.Name, err)
		return controller.Again{}, err
	}
	if len(p.skipped) > 0 {
		return controller.Again{}, fmt.Errorf("the nodes of the pods %s are not known", strings.Join(p.skipped, ", "))
	}
	return controller.Again{}, nil
}

// own returns the Service's slices that this controller manages and that aren't on their way out.
func (r *reconciler) own(svc *corev1.Service) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, slice := range r.slices.List(svc.Namespace, labels.Set{discoveryv1.LabelServiceName: svc.Name, discoveryv1.LabelManagedBy: ManagedBy}.AsSelector()) {
		if slice.DeletionTimestamp == nil {
			out = append(out, slice)
		}
	}
	return out
}

// apply deletes last, so that no endpoint vanishes that another slice is about to hold.
func (r *reconciler) apply(ctx context.Context, svc *corev1.Service, p *plan) error {
	var errs []error
	if svc.DeletionTimestamp == nil {
		for _, slice := range p.create {
			_, err := client.EndpointSlices.Create(ctx, r.client, slice)
			if err == nil {
				r.metrics.changes.WithLabelValues("create").Inc()
			}
			if err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				errs = append(errs, fmt.Errorf("failed to create EndpointSlice for Service %s/%s: %w", svc.Namespace, svc.Name, err))
			}
		}
	}
	for _, slice := range p.update {
		if _, err := client.EndpointSlices.Update(ctx, r.client, slice); err != nil {
			errs = append(errs, fmt.Errorf("failed to update %s EndpointSlice for Service %s/%s: %w", slice.Name, svc.Namespace, svc.Name, err))
			continue
		}
		r.metrics.changes.WithLabelValues("update").Inc()
	}
	for _, slice := range p.delete {
		err := client.EndpointSlices.Delete(ctx, r.client, slice.Namespace, slice.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(slice.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("failed to delete %s EndpointSlice for Service %s/%s: %w", slice.Name, svc.Namespace, svc.Name, err))
			continue
		}
		r.metrics.changes.WithLabelValues("delete").Inc()
	}
	return errors.Join(errs...)
}
