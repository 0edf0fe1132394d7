package devices

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// results says in the API's words what was found.
func (s *search) results() ([]resourcev1.AllocationResult, error) {
	out := make([]resourcev1.AllocationResult, len(s.claims))
	for c, w := range s.claims {
		for _, p := range s.picked[c] {
			out[c].Devices.Results = append(out[c].Devices.Results, p.result())
		}
		out[c].Devices.Config = s.config(w)
		selector, err := s.selector(s.picked[c])
		if err != nil {
			return nil, fmt.Errorf("create NodeSelector for claim %s: %w", w.api.Name, err)
		}
		out[c].NodeSelector = selector
	}
	return out, nil
}

func (p *pick) result() resourcev1.DeviceRequestAllocationResult {
	r := resourcev1.DeviceRequestAllocationResult{
		Request: p.option.ref, Driver: p.device.id.Driver, Pool: p.device.id.Pool, Device: p.device.id.Device, Tolerations: p.option.tolerations,
		BindingConditions: p.device.api.BindingConditions, BindingFailureConditions: p.device.api.BindingFailureConditions, ShareID: p.share,
	}
	if p.option.admin {
		r.AdminAccess = new(true)
	}
	if len(p.taken) > 0 {
		r.ConsumedCapacity = p.taken
	}
	return r
}

// config collects the configuration of the classes that devices are of, and of the claim, as far as it concerns what was chosen.
func (s *search) config(w *wanted) []resourcev1.DeviceAllocationConfiguration {
	var out []resourcev1.DeviceAllocationConfiguration
	var classes []*resourcev1.DeviceClass
	refs := map[*resourcev1.DeviceClass][]string{}
	for _, r := range w.requests {
		o := s.chosen[r]
		if refs[o.class] == nil {
			classes = append(classes, o.class)
		}
		refs[o.class] = append(refs[o.class], o.ref)
	}
	for _, class := range classes {
		for _, c := range class.Spec.Config {
			out = append(out, resourcev1.DeviceAllocationConfiguration{
				Source: resourcev1.AllocationConfigSourceClass, Requests: slices.Clone(refs[class]), DeviceConfiguration: c.DeviceConfiguration,
			})
		}
	}
	for _, c := range w.api.Spec.Devices.Config {
		chosen := slices.ContainsFunc(w.requests, func(r *request) bool {
			return slices.Contains(c.Requests, s.chosen[r].parent) || slices.Contains(c.Requests, s.chosen[r].ref)
		})
		if len(c.Requests) == 0 || chosen {
			out = append(out, resourcev1.DeviceAllocationConfiguration{
				Source: resourcev1.AllocationConfigSourceClaim, Requests: c.Requests, DeviceConfiguration: c.DeviceConfiguration,
			})
		}
	}
	return out
}

// selector says from where all of the devices can be used; nil is everywhere.
func (s *search) selector(picked []*pick) (*corev1.NodeSelector, error) {
	var term corev1.NodeSelectorTerm
	for _, p := range picked {
		d := p.device
		node, selector := d.slice.api.Spec.NodeName, d.slice.api.Spec.NodeSelector
		if d.slice.perDevice() {
			node, selector = d.api.NodeName, d.api.NodeSelector
		}
		if node != nil || d.api.BindsToNode != nil && *d.api.BindsToNode {
			return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
				{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{s.node.Name}}}}}}, nil
		}
		if selector == nil || len(selector.NodeSelectorTerms) == 0 {
			continue
		}
		if n := len(selector.NodeSelectorTerms); n > 1 {
			return nil, fmt.Errorf("unsupported ResourceSlice.NodeSelector with %d terms", n)
		}
		term.MatchFields = join(term.MatchFields, selector.NodeSelectorTerms[0].MatchFields)
		term.MatchExpressions = join(term.MatchExpressions, selector.NodeSelectorTerms[0].MatchExpressions)
	}
	if len(term.MatchFields)+len(term.MatchExpressions) == 0 {
		return nil, nil
	}
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}}, nil
}

// join adds what isn't there yet.
func join(have, more []corev1.NodeSelectorRequirement) []corev1.NodeSelectorRequirement {
	for _, r := range more {
		if !slices.ContainsFunc(have, func(h corev1.NodeSelectorRequirement) bool { return equality.Semantic.DeepEqual(h, r) }) {
			have = append(have, r)
		}
	}
	return have
}
