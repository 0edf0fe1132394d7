package allocation

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// nodePorts lists all ports of the nodes that a Service names, whether it needs them or not.
func nodePorts(s *corev1.Service) []int32 {
	out := servicePorts(s)
	if s.Spec.HealthCheckNodePort != 0 {
		out = append(out, s.Spec.HealthCheckNodePort)
	}
	return out
}

// heldPorts lists the ports of the nodes that were given to a Service. That for health checks is its own only while it needs one.
func heldPorts(s *corev1.Service) []int32 {
	if needsHealthCheck(s) {
		return nodePorts(s)
	}
	return servicePorts(s)
}

func servicePorts(s *corev1.Service) []int32 {
	var out []int32
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			out = append(out, p.NodePort)
		}
	}
	return out
}

// assignPorts gives a Service the node ports that its type asks for.
func (a *Allocator) assignPorts(ctx context.Context, tx *transaction, s, old *corev1.Service, dryRun bool) error {
	isNew := old == nil
	if isNew {
		old = &corev1.Service{}
	}
	take := a.portTaker(ctx, tx, dryRun)
	if s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		if err := assignServicePorts(s, isNew, servicePorts(old), take); err != nil {
			return err
		}
	}
	if needsHealthCheck(s) && !needsHealthCheck(old) {
		port, err := take(s.Spec.HealthCheckNodePort)
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %v: %v", s.Spec.HealthCheckNodePort, err))
		}
		s.Spec.HealthCheckNodePort = port
	}
	if dryRun {
		return nil
	}
	kept := heldPorts(s)
	lost := slices.DeleteFunc(heldPorts(old), func(p int32) bool { return slices.Contains(kept, p) })
	tx.onSuccess = append(tx.onSuccess, func() { a.ports.free(ctx, lost...) })
	return nil
}

// firstDryPort is the first of the node ports that dry runs show, as upstream's: none is looked for. Others follow the highest that the Service
// has asked for, be it in the range or not.
const firstDryPort = 32769

// portTaker returns a function that reserves a port, any for 0, for good if the transaction succeeds. For a dry run it reserves nothing.
func (a *Allocator) portTaker(ctx context.Context, tx *transaction, dryRun bool) func(int32) (int32, error) {
	if dryRun {
		mine := map[int32]bool{}
		return func(port int32) (int32, error) {
			if port == 0 && len(mine) == 0 {
				port = firstDryPort
			} else if port == 0 {
				port = max(0, slices.Max(slices.Collect(maps.Keys(mine)))) + 1
			} else if mine[port] || a.ports.taken(ctx, port) {
				return 0, errPortAllocated
			}
			mine[port] = true
			return port, nil
		}
	}
	return func(port int32) (int32, error) {
		var err error
		if port == 0 {
			port, err = a.ports.takeAny(ctx)
		} else {
			err = a.ports.take(ctx, port)
		}
		if err != nil {
			return 0, err
		}
		tx.onFailure = append(tx.onFailure, func() { a.ports.free(ctx, port) })
		return port, nil
	}
}

func assignServicePorts(s *corev1.Service, isNew bool, held []int32, take func(int32) (int32, error)) error {
	mine := map[int32]bool{}    // node ports that this Service has by now
	byPort := map[int32]int32{} // TCP and UDP of the same port of a new Service share a node port
	for _, p := range s.Spec.Ports {
		if isNew && p.NodePort != 0 && byPort[p.Port] == 0 {
			byPort[p.Port] = p.NodePort
		}
	}
	for _, p := range held {
		mine[p] = true
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.NodePort == 0 && s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.AllocateLoadBalancerNodePorts != nil && !*s.Spec.AllocateLoadBalancerNodePorts {
			continue
		}
		asked := p.NodePort
		if asked == 0 {
			asked = byPort[p.Port]
		}
		if asked != 0 && mine[asked] {
			p.NodePort = asked
			continue
		}
		port, err := take(asked)
		if err != nil && asked != 0 {
			return invalid(s, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), asked, err.Error()))
		}
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
		}
		p.NodePort, mine[port] = port, true
		if isNew {
			byPort[p.Port] = port
		}
	}
	return nil
}

func needsHealthCheck(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}
