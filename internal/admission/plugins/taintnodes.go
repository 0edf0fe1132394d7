package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/admission"
)

// TaintNodesByCondition marks a new node as not ready, so that no pod lands on it before it is.
type TaintNodesByCondition struct{}

var _ admission.Mutator = TaintNodesByCondition{}

// Name implements admission.Plugin.
func (TaintNodesByCondition) Name() string { return "TaintNodesByCondition" }

// Handles implements admission.Selective.
func (TaintNodesByCondition) Handles(op admission.Operation) bool {
	return op == admission.Create
}

// Admit implements admission.Mutator.
func (TaintNodesByCondition) Admit(_ context.Context, r *admission.Request) error {
	if !concerns(r, "", "nodes", "") || r.Operation != admission.Create {
		return nil
	}
	node, err := as[*corev1.Node](r, r.Object)
	if err != nil {
		return err
	}
	want := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	for _, t := range node.Spec.Taints {
		if t.MatchTaint(&want) {
			return nil
		}
	}
	node.Spec.Taints = append(node.Spec.Taints, want)
	return nil
}
