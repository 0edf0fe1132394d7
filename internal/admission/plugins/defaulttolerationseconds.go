package plugins

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/admission"
)

// DefaultTolerationSeconds lets pods stay for some time on a node that is not ready or cannot be reached, unless they say otherwise.
type DefaultTolerationSeconds struct {
	notReady, unreachable int64
}

var _ admission.Mutator = DefaultTolerationSeconds{}

// defaultTolerationSeconds is for how long, where nothing else is asked for.
const defaultTolerationSeconds int64 = 300

// Name implements admission.Plugin.
func (DefaultTolerationSeconds) Name() string { return "DefaultTolerationSeconds" }

// Handles implements admission.Selective.
func (DefaultTolerationSeconds) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Admit implements admission.Mutator.
func (p DefaultTolerationSeconds) Admit(_ context.Context, r *admission.Request) error {
	if !concerns(r, "", "pods", "") || r.Operation != admission.Create && r.Operation != admission.Update {
		return nil
	}
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("expected *api.Pod but got %T", r.Object))
	}
	given := pod.Spec.Tolerations
	for _, d := range []struct {
		taint   string
		seconds int64
	}{{corev1.TaintNodeNotReady, p.notReady}, {corev1.TaintNodeUnreachable, p.unreachable}} {
		if toleratesEviction(given, d.taint) {
			continue
		}
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key:               d.taint,
			Operator:          corev1.TolerationOpExists,
			Effect:            corev1.TaintEffectNoExecute,
			TolerationSeconds: ptr.To(d.seconds),
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
