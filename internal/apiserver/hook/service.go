package hook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
)

// Resolve finds an address that answers for a port of a Service: one of its ready endpoints, or the name that it stands for.
func Resolve(ctx context.Context, c client.Client, namespace, name string, port int32) (string, error) {
	svc, err := client.Services.Get(ctx, c, namespace, name)
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf("service %q not found", name)
	}
	if err != nil {
		return "", err
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(port))), nil
	}
	for _, p := range svc.Spec.Ports {
		if p.Port == port {
			return endpoint(ctx, c, svc, p.Name)
		}
	}
	return "", fmt.Errorf("no service port %d found for service %q", port, name)
}

func endpoint(ctx context.Context, c client.Client, svc *corev1.Service, port string) (string, error) {
	slices, err := client.EndpointSlices.List(ctx, c, svc.Namespace, labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: svc.Name}))
	if err != nil {
		return "", err
	}
	var ready []string
	for _, slice := range slices {
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
