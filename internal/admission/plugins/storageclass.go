package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/client"
)

// DefaultStorageClass gives a claim without a class the default one.
type DefaultStorageClass struct {
	views *views
}

var _ admission.Mutator = (*DefaultStorageClass)(nil)

// Name implements admission.Plugin.
func (*DefaultStorageClass) Name() string { return "DefaultStorageClass" }

// Handles implements admission.Selective.
func (*DefaultStorageClass) Handles(op admission.Operation) bool {
	return op == admission.Create
}

// Admit implements admission.Mutator.
func (p *DefaultStorageClass) Admit(_ context.Context, r *admission.Request) error {
	pvc, ok := r.Object.(*corev1.PersistentVolumeClaim)
	if !ok || !concerns(r, "", "persistentvolumeclaims", "") || r.Operation != admission.Create {
		return nil
	}
	if _, annotated := pvc.Annotations[corev1.BetaStorageClassAnnotation]; annotated || pvc.Spec.StorageClassName != nil {
		return nil
	}
	if class, ok := newestDefault(p.views.storageClasses.List("", nil), isDefaultStorageClass); ok {
		name := class.Name
		pvc.Spec.StorageClassName = &name
	}
	return nil
}

func isDefaultStorageClass(c *storagev1.StorageClass) bool {
	return c.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" || c.Annotations["storageclass.beta.kubernetes.io/is-default-class"] == "true"
}

// newestDefault returns the default of several classes: the one made last, and of those made at once the first by name.
func newestDefault[T client.Object](classes []T, isDefault func(T) bool) (best T, ok bool) {
	for _, c := range classes {
		if isDefault(c) && (!ok || better(c, best)) {
			best, ok = c, true
		}
	}
	return best, ok
}

func better(a, b metav1.Object) bool {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	if at.Equal(&bt) {
		return a.GetName() < b.GetName()
	}
	return bt.Before(&at)
}
