package plugins

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/admission"
)

// PodTopologyLabels copies the zone and region of a node to the pods that are bound to it.
type PodTopologyLabels struct {
	views *views
}

var _ admission.Mutator = (*PodTopologyLabels)(nil)

// Name implements admission.Plugin.
func (*PodTopologyLabels) Name() string { return "PodTopologyLabels" }

// Handles implements admission.Selective.
func (*PodTopologyLabels) Handles(op admission.Operation) bool {
	return op == admission.Create
}

// Admit implements admission.Mutator.
func (p *PodTopologyLabels) Admit(_ context.Context, r *admission.Request) error {
	if r.Operation != admission.Create {
		return nil
	}
	switch {
	case concerns(r, "", "pods", ""):
		pod, ok := r.Object.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("expected Pod but got %T", r.Object)
		}
		if pod.Spec.NodeName != "" {
			p.copyLabels(pod.Spec.NodeName, &pod.Labels)
		}
	case concerns(r, "", "pods", "binding"), concerns(r, "", "bindings", ""):
		binding, ok := r.Object.(*corev1.Binding)
		if !ok {
			return fmt.Errorf("expected Binding but got %s", r.Kind.Kind)
		}
		if binding.Target.Kind == "Node" {
			p.copyLabels(binding.Target.Name, &binding.Labels)
		}
	}
	return nil
}

func (p *PodTopologyLabels) copyLabels(node string, to *map[string]string) {
	n, ok := p.views.nodes.Get("", node)
	if !ok {
		return
	}
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		value, ok := n.Labels[key]
		if !ok {
			continue
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[key] = value
	}
}
