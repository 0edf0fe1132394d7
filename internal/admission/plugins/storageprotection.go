package plugins

import (
	"context"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/admission"
)

// StorageObjectInUseProtection marks volumes, claims and attributes classes so that they stay while they are in use.
type StorageObjectInUseProtection struct{}

var _ admission.Mutator = StorageObjectInUseProtection{}

var protectionFinalizers = map[schema.GroupResource]string{
	{Resource: "persistentvolumes"}:                                "kubernetes.io/pv-protection",
	{Resource: "persistentvolumeclaims"}:                           "kubernetes.io/pvc-protection",
	{Group: "storage.k8s.io", Resource: "volumeattributesclasses"}: "kubernetes.io/vac-protection",
}

// Name implements admission.Plugin.
func (StorageObjectInUseProtection) Name() string { return "StorageObjectInUseProtection" }

// Handles implements admission.Selective.
func (StorageObjectInUseProtection) Handles(op admission.Operation) bool {
	return op == admission.Create
}

// Admit implements admission.Mutator.
func (StorageObjectInUseProtection) Admit(_ context.Context, r *admission.Request) error {
	finalizer := protectionFinalizers[groupResource(r)]
	o, ok := r.Object.(metav1.Object)
	if finalizer == "" || !ok || r.Subresource != "" || r.Operation != admission.Create || slices.Contains(o.GetFinalizers(), finalizer) {
		return nil
	}
	o.SetFinalizers(append(o.GetFinalizers(), finalizer))
	return nil
}
