package servicecidr

import (
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
)

type reconciler struct {
	client    client.Client
	events    *events.Recorder
	ranges    client.TypedView[*networkingv1.ServiceCIDR]
	addresses client.TypedView[*networkingv1.IPAddress]
}

// Constructor makes the controller.
func Constructor() controller.Constructor {
	return controller.Constructor{Name: "service-cidrs", New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
		r := &reconciler{client: env.Client, events: env.Events("service-cidrs-controller")}
		if err := client.Open(ctx, env.Client, client.ServiceCIDRs.Into(&r.ranges), client.IPAddresses.Into(&r.addresses)); err != nil {
			return controller.Controller{}, err
		}
		return controller.Controller{
			Name: "service-cidr-controller",
			Inputs: []controller.Input{
				{View: r.ranges.View, Keys: r.overlapping},
				{View: r.addresses.View, Keys: r.ofAddress},
			},
			Outputs:   []string{"networking.k8s.io/servicecidrs", "networking.k8s.io/servicecidrs/status"},
			Reconcile: r.reconcile,
		}, nil
	}}
}

// overlapping maps a range to itself and to those on their way out, which it may relieve.
func (r *reconciler) overlapping(c client.Change) []controller.Key {
	return append(controller.Self(c), r.leaving()...)
}

// ofAddress maps an address that was given back to the ranges that may have waited for it.
func (r *reconciler) ofAddress(c client.Change) []controller.Key {
	if c.New != nil {
		return nil
	}
	return r.leaving()
}

func (r *reconciler) leaving() []controller.Key {
	var keys []controller.Key
	for _, it := range r.ranges.View.Items("", nil) {
		if it.Deleting() {
			keys = append(keys, controller.Key{Name: it.Name()})
		}
	}
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	s, ok := r.ranges.Get("", key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	if s.DeletionTimestamp != nil {
		return controller.Again{}, r.leave(ctx, s)
	}
	if !slices.Contains(s.Finalizers, finalizer) {
		next := s.DeepCopy()
		next.Finalizers = append(next.Finalizers, finalizer)
		stored, err := client.ServiceCIDRs.Update(ctx, r.client, next)
		if err != nil {
			return controller.Again{}, err
		}
		s = stored
	}
	return controller.Again{}, r.setReady(ctx, s, metav1.ConditionTrue, "", readyMessage)
}

// leave lets a range go once no address needs it.
func (r *reconciler) leave(ctx context.Context, s *networkingv1.ServiceCIDR) error {
	var used []netip.Addr
	for _, it := range r.addresses.View.Items("", nil) {
		if a, err := netip.ParseAddr(it.Name()); err == nil {
			used = append(used, a)
		}
	}
	if held(s, r.ranges.List("", nil), used) {
		return r.setReady(ctx, s, metav1.ConditionFalse, heldReason, heldMessage)
	}
	i := slices.Index(s.Finalizers, finalizer)
	if i < 0 {
		return nil
	}
	next := s.DeepCopy()
	next.Finalizers = slices.Delete(next.Finalizers, i, i+1)
	_, err := client.ServiceCIDRs.Update(ctx, r.client, next)
	return err
}

func (r *reconciler) setReady(ctx context.Context, s *networkingv1.ServiceCIDR, status metav1.ConditionStatus, reason, message string) error {
	if c := meta.FindStatusCondition(s.Status.Conditions, networkingv1.ServiceCIDRConditionReady); c != nil && c.Status == status && c.Reason == reason && c.Message == message {
		return nil
	}
	next := s.DeepCopy()
	meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{Type: networkingv1.ServiceCIDRConditionReady, Status: status, Reason: reason, Message: message})
	_, err := client.ServiceCIDRs.UpdateStatus(ctx, r.client, next)
	if err != nil {
		r.events.Event(s, corev1.EventTypeWarning, "KubernetesServiceCIDRError", "The ServiceCIDR Status can not be set to Ready="+string(status))
	}
	return err
}
