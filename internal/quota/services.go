package quota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// services counts Services, load balancers and node ports.
type services struct{}

var serviceCount = CountName(schema.GroupResource{Resource: "services"})

func (services) Handles(r Request) bool { return r.Subresource == "" }

func (services) Names(in []corev1.ResourceName) []corev1.ResourceName {
	return intersection(in, []corev1.ResourceName{serviceCount, corev1.ResourceServices, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers})
}

func (services) InScope(corev1.ScopedResourceSelectorRequirement, runtime.Object) bool { return false }

func (services) Constraints([]corev1.ResourceName, runtime.Object) error { return nil }

func (services) Usage(o runtime.Object, _ time.Time) corev1.ResourceList {
	out := corev1.ResourceList{}
	svc, ok := o.(*corev1.Service)
	if !ok {
		return out
	}
	nodePorts, balancers := 0, 0
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort:
		nodePorts = len(svc.Spec.Ports)
	case corev1.ServiceTypeLoadBalancer:
		nodePorts, balancers = len(svc.Spec.Ports), 1
		if a := svc.Spec.AllocateLoadBalancerNodePorts; a != nil && !*a {
			nodePorts = 0
			for _, p := range svc.Spec.Ports {
				if p.NodePort != 0 {
					nodePorts++
				}
			}
		}
	}
	out[serviceCount], out[corev1.ResourceServices] = count(1), count(1)
	out[corev1.ResourceServicesNodePorts], out[corev1.ResourceServicesLoadBalancers] = count(nodePorts), count(balancers)
	return out
}
