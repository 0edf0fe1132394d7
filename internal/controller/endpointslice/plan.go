package endpointslice

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/controller/backends"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

const (
	// ManagedBy is the value of the label that marks slices of this controller.
	ManagedBy = "endpointslice-controller.k8s.io"
	// maxEndpoints is how many endpoints one slice holds at most.
	maxEndpoints = 100
)

// state is what a decision is made from. Read-only.
type state struct {
	service *corev1.Service
	pods    []*corev1.Pod // those that the selector accepts
	slices  []*discoveryv1.EndpointSlice
	// zone returns the zone of a node, and whether the node is known.
	zone func(node string) (zone string, known bool)
}

// plan is what to write.
type plan struct {
	create, update, delete []*discoveryv1.EndpointSlice
	// skipped names pods whose node is not known yet; the Service must be looked at again.
	skipped []string

	// For metrics: endpoints that come and go; how many there are then, in how many slices, and how many slices would do.
	added, removed, endpoints, slices, desired int
}

// annotate says in what is written since when it has been so.
func (p *plan) annotate(since time.Time) {
	for _, slice := range p.create {
		backends.Annotate(&slice.Annotations, since)
	}
	for _, slice := range p.update {
		backends.Annotate(&slice.Annotations, since)
	}
}

// group is the endpoints of one address type whose ports are the same.
type group struct {
	addressType discoveryv1.AddressType
	ports       []discoveryv1.EndpointPort
	existing    []*discoveryv1.EndpointSlice
	desired     map[string]discoveryv1.Endpoint
}

// makePlan compares the slices of a Service with what they should be.
func makePlan(s state) plan {
	var p plan
	types := addressTypes(s.service)
	byType := map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice{}
	for _, slice := range s.slices {
		if !slices.Contains(types, slice.AddressType) {
			p.delete = append(p.delete, slice)
			p.removed += len(slice.Endpoints)
			continue
		}
		byType[slice.AddressType] = append(byType[slice.AddressType], slice)
	}
	for _, t := range types {
		s.planType(&p, t, byType[t])
	}
	p.slices = len(s.slices) + len(p.create) - len(p.delete)
	return p
}

// planType plans the slices of one address type.
func (s *state) planType(p *plan, t discoveryv1.AddressType, existing []*discoveryv1.EndpointSlice) {
	groups := map[string]*group{}
	groupOf := func(ports []discoveryv1.EndpointPort) *group {
		key := portsKey(ports)
		if groups[key] == nil {
			groups[key] = &group{addressType: t, ports: ports, desired: map[string]discoveryv1.Endpoint{}}
		}
		return groups[key]
	}
	for _, slice := range existing {
		g := groupOf(slice.Ports)
		g.existing = append(g.existing, slice)
	}
	for _, pod := range s.pods {
		if !backends.Included(pod, true) {
			continue
		}
		zone, known := s.zone(pod.Spec.NodeName)
		if !known && !s.service.Spec.PublishNotReadyAddresses {
			p.skipped = append(p.skipped, pod.Name)
			continue
		}
		e := s.endpoint(pod, zone, t)
		if len(e.Addresses) > 0 {
			groupOf(s.ports(pod)).desired[endpointKey(&e)] = e
		}
	}
	var q plan
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		s.planGroup(&q, groups[key])
	}
	s.keepOne(&q, t, existing)
	s.reuse(&q)
	s.hint(&q, existing)
	p.create, p.update, p.delete = append(p.create, q.create...), append(p.update, q.update...), append(p.delete, q.delete...)
	p.added, p.removed, p.endpoints, p.desired = p.added+q.added, p.removed+q.removed, p.endpoints+q.endpoints, p.desired+q.desired
}

// reuse turns pairs of a slice to create and one to delete into one update, so that nobody sees both at once, or neither.
func (s *state) reuse(p *plan) {
	kept := p.delete[:0:0]
	for _, old := range p.delete {
		if len(p.create) == 0 || !metav1.IsControlledBy(old, s.service) {
			kept = append(kept, old)
			continue
		}
		last := len(p.create) - 1
		slice := old.DeepCopy()
		slice.Labels, slice.Annotations, slice.Ports, slice.Endpoints = p.create[last].Labels, nil, p.create[last].Ports, p.create[last].Endpoints
		p.update, p.create = append(p.update, slice), p.create[:last]
	}
	p.delete = kept
}

// keepOne sees to it that a Service without endpoints has one empty slice.
func (s *state) keepOne(p *plan, t discoveryv1.AddressType, existing []*discoveryv1.EndpointSlice) {
	if len(p.create) > 0 || len(existing) > len(p.delete) {
		return
	}
	placeholder := s.newSlice(t, []discoveryv1.EndpointPort{})
	if len(p.delete) == 1 {
		old := p.delete[0]
		if len(old.Endpoints) == 0 && len(old.Ports) == 0 && maps.Equal(old.Labels, placeholder.Labels) {
			p.delete = nil
			return
		}
	}
	p.create = append(p.create, placeholder)
}

// planGroup plans the slices of one set of ports, in steps that touch more and more slices: first what is in
// slices stays there; then slices that change anyway are filled; then one that has room for all that remains; then new ones.
func (s *state) planGroup(p *plan, g *group) {
	var changed, unchanged []*discoveryv1.EndpointSlice
	p.endpoints += len(g.desired)
	p.desired += (len(g.desired) + maxEndpoints - 1) / maxEndpoints
	for _, slice := range g.existing {
		kept, same := g.keep(slice)
		p.removed += len(slice.Endpoints) - len(kept)
		labels := s.labels()
		switch {
		case len(kept) == 0:
			p.delete = append(p.delete, slice)
		case !same || !maps.Equal(labels, slice.Labels):
			slice = slice.DeepCopy()
			slice.Endpoints, slice.Labels = kept, labels
			changed = append(changed, slice)
		default:
			unchanged = append(unchanged, slice)
		}
	}
	p.added += len(g.desired)
	rest := make([]discoveryv1.Endpoint, 0, len(g.desired))
	for _, key := range slices.Sorted(maps.Keys(g.desired)) {
		rest = append(rest, g.desired[key])
	}
	fill := func(slice *discoveryv1.EndpointSlice) {
		n := max(min(maxEndpoints-len(slice.Endpoints), len(rest)), 0)
		slice.Endpoints = append(slice.Endpoints, rest[:n]...)
		rest = rest[n:]
	}
	slices.SortFunc(changed, fullestFirst)
	for _, slice := range changed {
		fill(slice)
	}
	if i := roomFor(unchanged, len(rest)); i >= 0 {
		slice := unchanged[i].DeepCopy()
		fill(slice)
		changed = append(changed, slice)
	}
	for len(rest) > 0 {
		slice := s.newSlice(g.addressType, g.ports)
		fill(slice)
		p.create = append(p.create, slice)
	}
	p.update = append(p.update, changed...)
}

// keep returns what of a slice's endpoints is still wanted, as it is wanted, and takes it out of desired. same tells whether nothing changed.
func (g *group) keep(slice *discoveryv1.EndpointSlice) (kept []discoveryv1.Endpoint, same bool) {
	same = true
	for i := range slice.Endpoints {
		old := &slice.Endpoints[i]
		key := endpointKey(old)
		want, ok := g.desired[key]
		if !ok {
			same = false
			continue
		}
		delete(g.desired, key)
		want.Hints = old.Hints // they are compared apart
		same = same && equality.Semantic.DeepEqual(&want, old)
		kept = append(kept, want)
	}
	return kept, same
}

func fullestFirst(a, b *discoveryv1.EndpointSlice) int {
	return cmp.Or(cmp.Compare(len(b.Endpoints), len(a.Endpoints)), cmp.Compare(a.Name, b.Name))
}

// roomFor returns the fullest slice that has room for n endpoints, -1 if there is none or n is 0.
func roomFor(list []*discoveryv1.EndpointSlice, n int) int {
	best := -1
	if n == 0 || n >= maxEndpoints {
		return best
	}
	for i, slice := range list {
		if len(slice.Endpoints)+n <= maxEndpoints && (best < 0 || len(slice.Endpoints) > len(list[best].Endpoints)) {
			best = i
		}
	}
	return best
}

func (s *state) newSlice(t discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	prefix := s.service.Name + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) > 0 {
		prefix = s.service.Name
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.service.Namespace, GenerateName: prefix, Labels: s.labels(),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s.service, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: t,
		Ports:       ports,
		Endpoints:   []discoveryv1.Endpoint{},
	}
}

// labels are the Service's own, and those that say whose the slice is.
func (s *state) labels() map[string]string {
	out := map[string]string{}
	maps.Copy(out, s.service.Labels)
	delete(out, corev1.IsHeadlessService)
	if !backends.HasIP(s.service) {
		out[corev1.IsHeadlessService] = ""
	}
	out[discoveryv1.LabelServiceName] = s.service.Name
	out[discoveryv1.LabelManagedBy] = ManagedBy
	return out
}

func (s *state) endpoint(pod *corev1.Pod, zone string, t discoveryv1.AddressType) discoveryv1.Endpoint {
	serving, terminating := podcontrol.Ready(pod), pod.DeletionTimestamp != nil
	ready := s.service.Spec.PublishNotReadyAddresses || serving && !terminating
	e := discoveryv1.Endpoint{
		Addresses:  backends.Addresses(pod, t == discoveryv1.AddressTypeIPv6),
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		node := pod.Spec.NodeName
		e.NodeName = &node
	}
	if zone != "" {
		e.Zone = &zone
	}
	if hostname := backends.Hostname(pod, s.service); hostname != "" {
		e.Hostname = &hostname
	}
	return e
}

// ports resolves the Service's ports for a pod. A port that the pod doesn't have is left out.
func (s *state) ports(pod *corev1.Pod) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for i := range s.service.Spec.Ports {
		sp := &s.service.Spec.Ports[i]
		number, ok := backends.Port(pod, sp)
		if !ok {
			continue
		}
		name, protocol := sp.Name, sp.Protocol
		out = append(out, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol, AppProtocol: sp.AppProtocol})
	}
	return out
}

// addressTypes returns the address types that a Service has slices of.
func addressTypes(svc *corev1.Service) []discoveryv1.AddressType {
	var out []discoveryv1.AddressType
	for _, f := range svc.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			out = append(out, discoveryv1.AddressTypeIPv6)
			continue
		}
		out = append(out, discoveryv1.AddressTypeIPv4)
	}
	switch {
	case len(out) > 0:
		return out
	case !backends.HasIP(svc):
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
	case backends.IsIPv6(svc.Spec.ClusterIP):
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv6}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
}

func portsKey(ports []discoveryv1.EndpointPort) string {
	parts := make([]string, len(ports))
	for i, p := range ports {
		parts[i] = fmt.Sprintf("%s|%d|%s|%s", deref(p.Name), derefPort(p.Port), deref((*string)(p.Protocol)), deref(p.AppProtocol))
	}
	slices.Sort(parts)
	return strings.Join(parts, ";")
}

// endpointKey identifies an endpoint: two of the same key are versions of one.
func endpointKey(e *discoveryv1.Endpoint) string {
	target := ""
	if e.TargetRef != nil {
		target = e.TargetRef.Namespace + "/" + e.TargetRef.Name
	}
	return strings.Join([]string{strings.Join(slices.Sorted(slices.Values(e.Addresses)), ","), deref(e.Hostname), deref(e.NodeName), target}, "|")
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func derefPort(p *int32) int32 {
	if p == nil {
		return -1
	}
	return *p
}
