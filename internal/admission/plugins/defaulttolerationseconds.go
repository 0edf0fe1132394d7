package plugins

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/admission"
)

// DefaultTolerationSeconds lets pods stay five minutes on a node that is not ready or cannot be reached, unless they say otherwise.
type DefaultTolerationSeconds struct{}

var _ admission.Mutator = DefaultTolerationSeconds{}

const defaultTolerationSeconds = 300

// Name implements admission.Plugin.
func (DefaultTolerationSeconds) Name() string { return "DefaultTolerationSeconds" }

// Handles implements admission.Selective.
func (DefaultTolerationSeconds) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Admit implements admission.Mutator.
func (DefaultTolerationSeconds) Admit(_ context.Context, r *admission.Request) error {
	if !concerns(r, "", "pods", "") || r.Operation != admission.Create && r.Operation != admission.Update {
		return nil
	}
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("expected *api.Pod but got %T", r.Object))
	}
	given := pod.Spec.Tolerations
	for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if toleratesEviction(given, taint) {
			continue
		}
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key:               taint,
			Operator:          corev1.TolerationOpExists,
			Effect:            corev1.TaintEffectNoExecute,
			TolerationSeconds: ptr.To[int64](defaultTolerationSeconds),
		})
	}
	return nil
}

func toleratesEviction(tolerations []corev1.Toleration, taint string) bool {
	for _, t := range tolerations {
		if (t.Key == taint || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}
