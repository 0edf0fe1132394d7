package hook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
)

// Resolver finds addresses of Services. It reads what this process knows and never waits: webhooks are called in places that the
// cache itself waits for. Make it with NewResolver.
type Resolver struct {
	services client.TypedView[*corev1.Service]
	slices   client.TypedView[*discoveryv1.EndpointSlice]
}

// NewResolver returns a resolver that works until ctx ends.
func NewResolver(ctx context.Context, c client.Client) (*Resolver, error) {
	r := &Resolver{}
	served := c.Kinds(ctx, nil)
	var err error
	if r.services, err = client.ViewIfServed(ctx, c, served, client.Services); err != nil {
		return nil, err
	}
	r.slices, err = client.ViewIfServed(ctx, c, served, client.EndpointSlices)
	return r, err
}

// Service returns a Service; the error says that it isn't there.
func (r *Resolver) Service(namespace, name string) (*corev1.Service, error) {
	svc, ok := r.services.Get(namespace, name)
	if !ok {
		return nil, fmt.Errorf("service %q not found", name)
	}
	return svc, nil
}

// Resolve finds an address that answers for a port of a Service: one of its ready endpoints, or the name that it stands for.
func (r *Resolver) Resolve(namespace, name string, port int32) (string, error) {
	svc, err := r.Service(namespace, name)
	if err != nil {
		return "", err
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(port))), nil
	}
	for _, p := range svc.Spec.Ports {
		if p.Port == port {
			return r.endpoint(svc, p.Name)
		}
	}
	return "", fmt.Errorf("no service port %d found for service %q", port, name)
}

func (r *Resolver) endpoint(svc *corev1.Service, port string) (string, error) {
	var ready []string
	for _, slice := range r.slices.List(svc.Namespace, labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: svc.Name})) {
		for _, p := range slice.Ports {
			if p.Port == nil || p.Name == nil || *p.Name != port {
				continue
			}
			for _, ep := range slice.Endpoints {
				if (ep.Conditions.Ready == nil || *ep.Conditions.Ready) && len(ep.Addresses) > 0 {
					ready = append(ready, net.JoinHostPort(ep.Addresses[0], strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	if len(ready) == 0 {
		return "", fmt.Errorf("no endpoints available for service %q", svc.Name)
	}
	return ready[rand.IntN(len(ready))], nil
}
