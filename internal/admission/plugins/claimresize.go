package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/admission"
)

// PersistentVolumeClaimResize lets a bound claim grow if its class allows it.
type PersistentVolumeClaimResize struct {
	views *views
}

var _ admission.Validator = (*PersistentVolumeClaimResize)(nil)

// Name implements admission.Plugin.
func (*PersistentVolumeClaimResize) Name() string { return "PersistentVolumeClaimResize" }

// Handles implements admission.Selective.
func (*PersistentVolumeClaimResize) Handles(op admission.Operation) bool {
	return op == admission.Update
}

// Validate implements admission.Validator.
func (p *PersistentVolumeClaimResize) Validate(_ context.Context, r *admission.Request) error {
	if !concerns(r, "", "persistentvolumeclaims", "") || r.Operation != admission.Update {
		return nil
	}
	pvc, ok := r.Object.(*corev1.PersistentVolumeClaim)
	old, was := r.OldObject.(*corev1.PersistentVolumeClaim)
	if !ok || !was || pvc.Spec.Resources.Requests.Storage().Cmp(*old.Spec.Resources.Requests.Storage()) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return forbidf(r, "Only bound persistent volume claims can be expanded")
	}
	if !p.resizable(pvc, old) {
		return forbidf(r, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
	}
	return nil
}

func (p *PersistentVolumeClaimResize) resizable(pvc, old *corev1.PersistentVolumeClaim) bool {
	name := claimClass(pvc)
	if name == "" || name != claimClass(old) {
		return false
	}
	class, ok := p.views.storageClasses.Get("", name)
	return ok && class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion
}

func claimClass(pvc *corev1.PersistentVolumeClaim) string {
	if name, ok := pvc.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return name
	}
	if pvc.Spec.StorageClassName != nil {
		return *pvc.Spec.StorageClassName
	}
	return ""
}
