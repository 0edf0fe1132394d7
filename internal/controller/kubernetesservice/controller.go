package kubernetesservice

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

const (
	name = "kubernetes"
	// period is how often the servers' addresses are asked for.
	period = 10 * time.Second
)

// Config says where the API is.
type Config struct {
	// ServiceIP is the Service's address: the first of the range.
	ServiceIP netip.Addr
	// Port is what the servers listen on.
	Port int32
	// Addresses returns the addresses of the servers that are up, at least one.
	Addresses func() []netip.Addr
	// User acts; empty is system:apiserver.
	User string
}

type reconciler struct {
	cfg       Config
	client    client.Client
	services  client.TypedView[*corev1.Service]
	endpoints client.TypedView[*corev1.Endpoints]
	slices    client.TypedView[*discoveryv1.EndpointSlice]
}

// Constructor makes the controller.
func Constructor(cfg Config) controller.Constructor {
	if cfg.User == "" {
		cfg.User = "system:apiserver"
	}
	return controller.Constructor{Name: "kubernetes-service", User: cfg.User, New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
		r := &reconciler{cfg: cfg, client: env.Client}
		only := client.Selection{Namespace: metav1.NamespaceDefault, Name: name}
		if err := client.Open(ctx, env.Client,
			client.Services.SelectedInto(&r.services, only), client.Endpoints.SelectedInto(&r.endpoints, only),
			client.EndpointSlices.SelectedInto(&r.slices, only),
		); err != nil {
			return controller.Controller{}, err
		}
		return controller.Controller{
			Name:    "kubernetes_service",
			Workers: 1,
			Inputs: []controller.Input{
				{View: r.services.View, Keys: controller.Self},
				{View: r.endpoints.View, Keys: controller.Self},
				{View: r.slices.View, Keys: controller.Self},
			},
			Outputs:   []string{"services", "endpoints", "discovery.k8s.io/endpointslices"},
			Reconcile: r.reconcile,
			Source: func(_ context.Context, add func(controller.Key)) error {
				add(controller.Key{Namespace: metav1.NamespaceDefault, Name: name})
				return nil
			},
		}, nil
	}}
}

func (r *reconciler) reconcile(ctx context.Context, _ controller.Key) (controller.Again, error) {
	addresses := slices.Clone(r.cfg.Addresses())
	slices.SortFunc(addresses, netip.Addr.Compare)
	err := errors.Join(
		ensure(ctx, r.client, client.Services, r.services, wantService(&r.cfg), keepService),
		ensure(ctx, r.client, client.Endpoints, r.endpoints, wantEndpoints(addresses, r.cfg.Port), func(have, want *corev1.Endpoints) bool {
			have.Labels = withLabels(have.Labels, want.Labels)
			have.Subsets = want.Subsets
			return true
		}),
		ensure(ctx, r.client, client.EndpointSlices, r.slices, wantSlice(addresses, r.cfg.Port), func(have, want *discoveryv1.EndpointSlice) bool {
			have.Labels = withLabels(have.Labels, want.Labels)
			have.Endpoints, have.Ports = want.Endpoints, want.Ports
			return have.AddressType == want.AddressType
		}),
	)
	return controller.Again{After: period}, err
}

// ensure creates an object or brings it up to date: amend makes what is there as it is wanted, and returns false if it can't
// and the object must be made anew.
func ensure[T client.Object](ctx context.Context, c client.Client, kind client.Kind[T], view client.TypedView[T], want T, amend func(have, want T) bool) error {
	have, ok := view.Get(want.GetNamespace(), want.GetName())
	if !ok {
		_, err := kind.Create(ctx, c, want)
		if apierrors.IsAlreadyExists(err) {
			return nil // the view is about to show it
		}
		return err
	}
	next := have.DeepCopyObject().(T)
	if !amend(next, want) {
		return kind.Delete(ctx, c, want.GetNamespace(), want.GetName(), metav1.DeleteOptions{})
	}
	if equality.Semantic.DeepEqual(have, next) {
		return nil
	}
	_, err := kind.Update(ctx, c, next)
	return err
}

func withLabels(have, want map[string]string) map[string]string {
	if have == nil {
		have = map[string]string{}
	}
	for k, v := range want {
		have[k] = v
	}
	return have
}

func wantService(cfg *Config) *corev1.Service {
	family, policy := corev1.IPv4Protocol, corev1.IPFamilyPolicySingleStack
	if cfg.ServiceIP.Is6() {
		family = corev1.IPv6Protocol
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name, Labels: map[string]string{"provider": "kubernetes", "component": "apiserver"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: cfg.ServiceIP.String(), ClusterIPs: []string{cfg.ServiceIP.String()},
			IPFamilies: []corev1.IPFamily{family}, IPFamilyPolicy: &policy, SessionAffinity: corev1.ServiceAffinityNone,
			Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(cfg.Port)}},
		},
	}
}

// keepService restores the ports; the rest may be somebody's wish.
func keepService(have, want *corev1.Service) bool {
	if len(have.Spec.Ports) == 1 && have.Spec.Ports[0].Name == "https" && have.Spec.Ports[0].Port == 443 && have.Spec.Ports[0].TargetPort == want.Spec.Ports[0].TargetPort {
		return true
	}
	have.Spec.Ports = want.Spec.Ports
	return true
}

func wantEndpoints(addresses []netip.Addr, port int32) *corev1.Endpoints {
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "https", Port: port, Protocol: corev1.ProtocolTCP}}}
	for _, a := range addresses {
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: a.String()})
	}
	return &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name, Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}},
		Subsets:    []corev1.EndpointSubset{subset},
	}
}

func wantSlice(addresses []netip.Addr, port int32) *discoveryv1.EndpointSlice {
	ready, https, tcp := true, "https", corev1.ProtocolTCP
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &https, Port: &port, Protocol: &tcp}},
	}
	for _, a := range addresses {
		if a.Is6() {
			slice.AddressType = discoveryv1.AddressTypeIPv6
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	return slice
}
