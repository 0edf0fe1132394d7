// Package backends tells which pods serve a Service, and at which port and address: what the controllers for Endpoints and EndpointSlices share.
package backends

import (
	"net"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	netutils "k8s.io/utils/net"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

// Managed tells whether the endpoints of a Service follow from its selector.
func Managed(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName && len(svc.Spec.Selector) > 0
}

// HasIP tells whether a Service has an address of its own.
func HasIP(svc *corev1.Service) bool {
	return svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != corev1.ClusterIPNone
}

// Headless tells whether a Service was made to have no address.
func Headless(svc *corev1.Service) bool { return svc.Spec.ClusterIP == corev1.ClusterIPNone }

// Included tells whether a pod belongs to the endpoints: it has an address and has not ended. One that is being deleted belongs
// to them as long as terminating says so.
func Included(pod *corev1.Pod, terminating bool) bool {
	if podcontrol.Terminal(pod) || pod.Status.PodIP == "" && len(pod.Status.PodIPs) == 0 {
		return false
	}
	return terminating || pod.DeletionTimestamp == nil
}

// Addresses returns a pod's addresses of a family, in canonical form.
func Addresses(pod *corev1.Pod, ipv6 bool) []string {
	out := []string{}
	for _, p := range pod.Status.PodIPs {
		ip := netutils.ParseIPSloppy(p.IP)
		if ip != nil && netutils.IsIPv6(ip) == ipv6 {
			out = append(out, ip.String())
		}
	}
	return out
}

// IsIPv6 tells whether an address is of the sixth version.
func IsIPv6(address string) bool {
	ip := net.ParseIP(address)
	return ip != nil && ip.To4() == nil
}

// Hostname returns the name under which a pod is found below a headless Service; empty if it has none there.
func Hostname(pod *corev1.Pod, svc *corev1.Service) string {
	if pod.Spec.Subdomain != svc.Name || svc.Namespace != pod.Namespace {
		return ""
	}
	return pod.Spec.Hostname
}

// Port finds the container port that a Service's port leads to in a pod.
func Port(pod *corev1.Pod, port *corev1.ServicePort) (int32, bool) {
	if port.TargetPort.Type == intstr.Int {
		return port.TargetPort.IntVal, true
	}
	for i := range pod.Spec.Containers {
		if n, ok := portOf(&pod.Spec.Containers[i], port); ok {
			return n, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if n, ok := portOf(c, port); ok {
			return n, true
		}
	}
	return 0, false
}

func portOf(c *corev1.Container, port *corev1.ServicePort) (int32, bool) {
	for _, p := range c.Ports {
		if p.Name == port.TargetPort.StrVal && p.Protocol == port.Protocol {
			return p.ContainerPort, true
		}
	}
	return 0, false
}

// ServicesOfPod returns a mapping from a pod's change to the Services whose endpoints it may change.
func ServicesOfPod(services client.TypedView[*corev1.Service]) func(client.Change) []controller.Key {
	return func(c client.Change) []controller.Key {
		if c.Old != nil && c.New != nil && !matters(c.Old.Object().(*corev1.Pod), c.New.Object().(*corev1.Pod)) {
			return nil
		}
		it := c.New
		if it == nil {
			it = c.Old
		}
		var keys []controller.Key
		for _, svc := range services.List(it.Namespace(), nil) {
			if Managed(svc) && (selects(svc, c.New) || selects(svc, c.Old)) {
				keys = append(keys, controller.Key{Namespace: svc.Namespace, Name: svc.Name})
			}
		}
		return keys
	}
}

func selects(svc *corev1.Service, pod client.Item) bool {
	return pod != nil && labels.SelectorFromValidatedSet(svc.Spec.Selector).Matches(pod.Labels())
}

// matters tells whether a change of a pod can change endpoints.
func matters(old, now *corev1.Pod) bool {
	return old.UID != now.UID ||
		!equality.Semantic.DeepEqual(old.Labels, now.Labels) ||
		(old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil) ||
		podcontrol.Terminal(old) != podcontrol.Terminal(now) ||
		podcontrol.Ready(old) != podcontrol.Ready(now) ||
		old.Status.PodIP != now.Status.PodIP ||
		!equality.Semantic.DeepEqual(old.Status.PodIPs, now.Status.PodIPs) ||
		old.Spec.NodeName != now.Spec.NodeName ||
		old.Spec.Hostname != now.Spec.Hostname || old.Spec.Subdomain != now.Spec.Subdomain
}
