package endpointslicemirroring

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"clipper.dev/clipper/internal/controller/backends"
)

const (
	// ManagedBy is the value of the label that marks slices of this controller.
	ManagedBy = "endpointslicemirroring-controller.k8s.io"
	// maxPerSubset is how many addresses of a subset are mirrored.
	maxPerSubset = 1000
)

// mirrored tells whether Endpoints are mirrored at all.
func mirrored(e *corev1.Endpoints) bool {
	if e.Labels[discoveryv1.LabelSkipMirror] == "true" || e.Labels["endpoints.kubernetes.io/managed-by"] != "" {
		return false
	}
	_, election := e.Annotations[resourcelock.LeaderElectionRecordAnnotationKey]
	return !election
}

// plan is what to write.
type plan struct {
	create, update, delete []*discoveryv1.EndpointSlice
	skipped                int // addresses beyond the limit

	// For metrics.
	difference
	extent
}

// makePlan compares the slices that mirror Endpoints with what they should be.
func makePlan(e *corev1.Endpoints, existing []*discoveryv1.EndpointSlice) plan {
	var p plan
	want := map[string]*discoveryv1.EndpointSlice{}
	for i := range e.Subsets {
		p.skipped += addSubset(want, e, &e.Subsets[i])
	}
	for _, slice := range want {
		p.endpoints += len(slice.Endpoints)
		p.desired += (len(slice.Endpoints) + maxPerSubset - 1) / maxPerSubset
	}
	p.slices = len(want)
	for _, slice := range existing {
		key := sliceKey(slice.AddressType, slice.Ports)
		target, ok := want[key]
		if !ok {
			p.delete = append(p.delete, slice)
			continue
		}
		delete(want, key)
		p.add(compare(slice.Endpoints, target.Endpoints))
		next := slice.DeepCopy()
		next.Labels, next.Annotations, next.Endpoints = target.Labels, target.Annotations, target.Endpoints
		if !equality.Semantic.DeepEqual(slice, next) {
			p.update = append(p.update, next)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		p.create = append(p.create, want[key])
		p.added += len(want[key].Endpoints)
	}
	return p
}

// addSubset adds a subset's addresses to the slices of its ports and returns how many had no place.
func addSubset(want map[string]*discoveryv1.EndpointSlice, e *corev1.Endpoints, s *corev1.EndpointSubset) (skipped int) {
	ports := make([]discoveryv1.EndpointPort, len(s.Ports))
	for i, p := range s.Ports {
		ports[i] = discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol}
	}
	added := 0
	add := func(a *corev1.EndpointAddress, ready bool) {
		if added >= maxPerSubset {
			skipped++
			return
		}
		added++
		t := discoveryv1.AddressTypeIPv4
		if backends.IsIPv6(a.IP) {
			t = discoveryv1.AddressTypeIPv6
		}
		key := sliceKey(t, ports)
		if want[key] == nil {
			want[key] = newSlice(e, t, ports)
		}
		want[key].Endpoints = append(want[key].Endpoints, endpoint(a, ready))
	}
	for i := range s.Addresses {
		add(&s.Addresses[i], true)
	}
	for i := range s.NotReadyAddresses {
		add(&s.NotReadyAddresses[i], false)
	}
	return skipped
}

func endpoint(a *corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef}
	if a.NodeName != nil {
		out.NodeName = a.NodeName
	}
	if a.Hostname != "" {
		out.Hostname = &a.Hostname
	}
	return out
}

func newSlice(e *corev1.Endpoints, t discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	prefix := e.Name + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) > 0 {
		prefix = e.Name
	}
	labels := map[string]string{}
	maps.Copy(labels, e.Labels)
	labels[discoveryv1.LabelServiceName], labels[discoveryv1.LabelManagedBy] = e.Name, ManagedBy
	annotations := map[string]string{}
	maps.Copy(annotations, e.Annotations)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, GenerateName: prefix, Labels: labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))}},
		AddressType: t, Ports: ports,
	}
}

func sliceKey(t discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	var parts []string
	for _, p := range ports {
		app := ""
		if p.AppProtocol != nil {
			app = *p.AppProtocol
		}
		parts = append(parts, fmt.Sprintf("%s|%d|%s|%s", value(p.Name), value(p.Port), value(p.Protocol), app))
	}
	slices.Sort(parts)
	return fmt.Sprint(t, parts)
}

func value[T cmp.Ordered](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
