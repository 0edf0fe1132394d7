package endpoints

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/controller/backends"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

const (
	// ManagedByLabel marks the Endpoints of this controller, so that they aren't mirrored into slices.
	ManagedByLabel = "endpoints.kubernetes.io/managed-by"
	managedBy      = "endpoint-controller"
	// capacity is how many addresses an object holds at most.
	capacity  = 1000
	truncated = "truncated"
)

// makePlan returns the Endpoints that a Service should have, nil if current (which may be nil) is right.
func makePlan(svc *corev1.Service, pods []*corev1.Pod, current *corev1.Endpoints) *corev1.Endpoints {
	want := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}
	if current != nil {
		want = current.DeepCopy()
	}
	want.Subsets = pack(addresses(svc, pods))
	want.Labels = map[string]string{}
	maps.Copy(want.Labels, svc.Labels)
	delete(want.Labels, corev1.IsHeadlessService)
	if !backends.HasIP(svc) {
		want.Labels[corev1.IsHeadlessService] = ""
	}
	want.Labels[ManagedByLabel] = managedBy
	delete(want.Annotations, corev1.EndpointsOverCapacity)
	if truncate(want.Subsets) {
		if want.Annotations == nil {
			want.Annotations = map[string]string{}
		}
		want.Annotations[corev1.EndpointsOverCapacity] = truncated
	}
	if current != nil && equality.Semantic.DeepEqual(want, current) {
		return nil
	}
	return want
}

// address is one pod's address at one port; a nil port is none.
type address struct {
	corev1.EndpointAddress
	ready bool
	port  *corev1.EndpointPort
}

func addresses(svc *corev1.Service, pods []*corev1.Pod) []address {
	var out []address
	for _, pod := range pods {
		if !backends.Included(pod, svc.Spec.PublishNotReadyAddresses) {
			continue
		}
		ips := backends.Addresses(pod, wantsIPv6(svc, pod))
		if len(ips) == 0 {
			continue
		}
		node := pod.Spec.NodeName
		a := address{ready: svc.Spec.PublishNotReadyAddresses || podcontrol.Ready(pod), EndpointAddress: corev1.EndpointAddress{
			IP: ips[0], NodeName: &node, Hostname: backends.Hostname(pod, svc),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		}}
		if len(svc.Spec.Ports) == 0 && backends.Headless(svc) {
			out = append(out, a)
		}
		for i := range svc.Spec.Ports {
			sp := &svc.Spec.Ports[i]
			if number, ok := backends.Port(pod, sp); ok {
				a.port = &corev1.EndpointPort{Name: sp.Name, Port: number, Protocol: sp.Protocol, AppProtocol: sp.AppProtocol}
				out = append(out, a)
			}
		}
	}
	return out
}

func wantsIPv6(svc *corev1.Service, pod *corev1.Pod) bool {
	switch {
	case len(svc.Spec.IPFamilies) > 0:
		return svc.Spec.IPFamilies[0] == corev1.IPv6Protocol
	case backends.HasIP(svc):
		return backends.IsIPv6(svc.Spec.ClusterIP)
	}
	return backends.IsIPv6(pod.Status.PodIP)
}

// pack groups addresses into subsets, each the product of its addresses and its ports: first the addresses of each port are
// collected, then the ports that have the same addresses.
func pack(list []address) []corev1.EndpointSubset {
	type portSet struct {
		port      *corev1.EndpointPort
		addresses map[string]address
	}
	byPort := map[string]*portSet{}
	for _, a := range list {
		key := portKey(a.port)
		if byPort[key] == nil {
			byPort[key] = &portSet{port: a.port, addresses: map[string]address{}}
		}
		// An address that is listed twice is ready if it is ready each time.
		id := a.IP + "|" + string(a.TargetRef.UID)
		if old, ok := byPort[key].addresses[id]; ok && !old.ready {
			continue
		}
		byPort[key].addresses[id] = a
	}
	subsets := map[string]*corev1.EndpointSubset{}
	for _, key := range slices.Sorted(maps.Keys(byPort)) {
		ps := byPort[key]
		ids := slices.Sorted(maps.Keys(ps.addresses))
		var group strings.Builder
		for _, id := range ids {
			fmt.Fprintf(&group, "%s=%v;", id, ps.addresses[id].ready)
		}
		s := subsets[group.String()]
		if s == nil {
			s = &corev1.EndpointSubset{}
			subsets[group.String()] = s
			for _, id := range ids {
				if a := ps.addresses[id]; a.ready {
					s.Addresses = append(s.Addresses, a.EndpointAddress)
				} else {
					s.NotReadyAddresses = append(s.NotReadyAddresses, a.EndpointAddress)
				}
			}
		}
		if ps.port != nil {
			s.Ports = append(s.Ports, *ps.port)
		}
	}
	var out []corev1.EndpointSubset
	for _, key := range slices.Sorted(maps.Keys(subsets)) {
		slices.SortFunc(subsets[key].Ports, func(a, b corev1.EndpointPort) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
		})
		out = append(out, *subsets[key])
	}
	return out
}

func portKey(p *corev1.EndpointPort) string {
	if p == nil {
		return ""
	}
	app := ""
	if p.AppProtocol != nil {
		app = *p.AppProtocol
	}
	return fmt.Sprintf("%s|%d|%s|%s", p.Name, p.Port, p.Protocol, app)
}

// truncate cuts the addresses down to the capacity, those that aren't ready first, and in proportion among the subsets. It
// reports whether it cut.
func truncate(subsets []corev1.EndpointSubset) bool {
	ready, notReady := 0, 0
	for _, s := range subsets {
		ready += len(s.Addresses)
		notReady += len(s.NotReadyAddresses)
	}
	if ready+notReady <= capacity {
		return false
	}
	room, total := capacity-ready, notReady
	if ready > capacity {
		room, total = capacity, ready
	}
	left := room
	for i := range subsets {
		list := &subsets[i].NotReadyAddresses
		if ready > capacity {
			subsets[i].NotReadyAddresses = nil
			list = &subsets[i].Addresses
		}
		share := int(math.Ceil(float64(len(*list)) / float64(total) * float64(room)))
		*list = (*list)[:min(share, left, len(*list))]
		left -= len(*list)
	}
	return true
}
