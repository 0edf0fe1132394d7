package plugins

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"clipper.dev/clipper/internal/admission"
)

// LimitPodHardAntiAffinityTopology lets pods keep others off their node only, not off a zone. It is off by default.
type LimitPodHardAntiAffinityTopology struct{}

var _ admission.Validator = LimitPodHardAntiAffinityTopology{}

// Name implements admission.Plugin.
func (LimitPodHardAntiAffinityTopology) Name() string { return "LimitPodHardAntiAffinityTopology" }

// Validate implements admission.Validator.
func (LimitPodHardAntiAffinityTopology) Validate(_ context.Context, r *admission.Request) error {
	if !concerns(r, "", "pods", "") || r.Operation != admission.Create && r.Operation != admission.Update {
		return nil
	}
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest("Resource was marked with kind Pod but was unable to be converted")
	}
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	for _, term := range pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if term.TopologyKey != corev1.LabelHostname {
			return apierrors.NewForbidden(groupResource(r), pod.Name,
				fmt.Errorf("affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey %v but only key %v is allowed", term.TopologyKey, corev1.LabelHostname))
		}
	}
	return nil
}
