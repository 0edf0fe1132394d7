package endpointslice

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// hint sets the topology hints as the Service's traffic distribution asks: each ready endpoint is for its own zone, or node. Slices whose
// hints must change for that become updates.
func (s *state) hint(p *plan, existing []*discoveryv1.EndpointSlice) {
	for _, slice := range slices.Concat(p.create, p.update) {
		s.setHints(slice)
	}
	for _, slice := range existing {
		same := func(other *discoveryv1.EndpointSlice) bool { return other.Name == slice.Name }
		if slices.ContainsFunc(p.update, same) || slices.ContainsFunc(p.delete, same) {
			continue
		}
		hinted := slice.DeepCopy()
		s.setHints(hinted)
		if !equality.Semantic.DeepEqual(slice.Endpoints, hinted.Endpoints) {
			p.update = append(p.update, hinted)
		}
	}
}

func (s *state) setHints(slice *discoveryv1.EndpointSlice) {
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		e.Hints = s.hintsFor(e)
	}
}

func (s *state) hintsFor(e *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	distribution := deref(s.service.Spec.TrafficDistribution)
	byNode := distribution == corev1.ServiceTrafficDistributionPreferSameNode
	byZone := byNode || distribution == corev1.ServiceTrafficDistributionPreferClose || distribution == corev1.ServiceTrafficDistributionPreferSameZone
	if e.Conditions.Ready == nil || !*e.Conditions.Ready {
		if byZone {
			return e.Hints
		}
		return nil
	}
	var h discoveryv1.EndpointHints
	if byZone && e.Zone != nil {
		h.ForZones = []discoveryv1.ForZone{{Name: *e.Zone}}
	}
	if byNode && e.NodeName != nil {
		h.ForNodes = []discoveryv1.ForNode{{Name: *e.NodeName}}
	}
	if h.ForZones == nil && h.ForNodes == nil {
		return nil
	}
	return &h
}
