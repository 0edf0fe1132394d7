package plugins

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api/core"
)

// ExtendedResourceToleration lets pods onto nodes that are tainted by the names of the devices that the pods ask for. It is off by default.
type ExtendedResourceToleration struct{}

var _ admission.Mutator = ExtendedResourceToleration{}

// Name implements admission.Plugin.
func (ExtendedResourceToleration) Name() string { return "ExtendedResourceToleration" }

// Admit implements admission.Mutator.
func (ExtendedResourceToleration) Admit(_ context.Context, r *admission.Request) error {
	if !concerns(r, "", "pods", "") || r.Operation != admission.Create && r.Operation != admission.Update {
		return nil
	}
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("expected *core.Pod but got %T", r.Object))
	}
	names := sets.New[string]()
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for name := range c.Resources.Requests {
			if core.IsExtendedResource(string(name)) {
				names.Insert(string(name))
			}
		}
	}
	for _, name := range sets.List(names) {
		tolerate(pod, corev1.Toleration{Key: name, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	return nil
}

// tolerate adds a toleration, in the place of one of the same taint if there is one.
func tolerate(pod *corev1.Pod, t corev1.Toleration) {
	if i := slices.IndexFunc(pod.Spec.Tolerations, func(o corev1.Toleration) bool { return t.MatchToleration(&o) }); i >= 0 {
		pod.Spec.Tolerations[i] = t
		return
	}
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
}
