package quota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// claims counts PersistentVolumeClaims and the storage that they ask for, also by storage class.
type claims struct{}

const byClass = ".storageclass.storage.k8s.io/"

var claimCount = CountName(schema.GroupResource{Resource: "persistentvolumeclaims"})

func (claims) Handles(r Request) bool {
	switch r.Subresource {
	case "":
		return true
	case "status":
		now, ok := r.Object.(*corev1.PersistentVolumeClaim)
		old, was := r.Old.(*corev1.PersistentVolumeClaim)
		return ok && was && (!equality.Semantic.DeepEqual(now.Status.AllocatedResources, old.Status.AllocatedResources) || !slices.Equal(attributeClasses(now), attributeClasses(old)))
	}
	return false
}

func (claims) Names(in []corev1.ResourceName) []corev1.ResourceName {
	var out []corev1.ResourceName
	for _, n := range in {
		if n == claimCount || n == corev1.ResourcePersistentVolumeClaims || n == corev1.ResourceRequestsStorage ||
			strings.HasSuffix(string(n), byClass+string(corev1.ResourcePersistentVolumeClaims)) || strings.HasSuffix(string(n), byClass+string(corev1.ResourceRequestsStorage)) {
			out = append(out, n)
		}
	}
	return out
}

func (claims) InScope(s corev1.ScopedResourceSelectorRequirement, o runtime.Object) bool {
	pvc, ok := o.(*corev1.PersistentVolumeClaim)
	if !ok || s.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass {
		return false
	}
	classes := attributeClasses(pvc)
	if len(classes) == 0 {
		return matchesValue(s, "")
	}
	return slices.ContainsFunc(classes, func(c string) bool { return matchesValue(s, c) })
}

// attributeClasses are the volume attributes classes that a claim has, wants, or is changing to, sorted.
func attributeClasses(pvc *corev1.PersistentVolumeClaim) []string {
	var out []string
	add := func(p *string) {
		if p != nil && *p != "" && !slices.Contains(out, *p) {
			out = append(out, *p)
		}
	}
	add(pvc.Spec.VolumeAttributesClassName)
	add(pvc.Status.CurrentVolumeAttributesClassName)
	if m := pvc.Status.ModifyVolumeStatus; m != nil {
		add(&m.TargetVolumeAttributesClassName)
	}
	slices.Sort(out)
	return out
}

func (claims) Constraints([]corev1.ResourceName, runtime.Object) error { return nil }

func (claims) Usage(o runtime.Object, _ time.Time) corev1.ResourceList {
	out := corev1.ResourceList{}
	pvc, ok := o.(*corev1.PersistentVolumeClaim)
	if !ok {
		return out
	}
	class := pvc.Annotations[corev1.BetaStorageClassAnnotation]
	if class == "" && pvc.Spec.StorageClassName != nil {
		class = *pvc.Spec.StorageClassName
	}
	out[corev1.ResourcePersistentVolumeClaims], out[claimCount] = count(1), count(1)
	if class != "" {
		out[corev1.ResourceName(class+byClass+string(corev1.ResourcePersistentVolumeClaims))] = count(1)
	}
	storage, ok := pvc.Spec.Resources.Requests[corev1.ResourceStorage]
	if !ok {
		return out
	}
	if allocated, ok := pvc.Status.AllocatedResources[corev1.ResourceStorage]; ok && allocated.Cmp(storage) > 0 {
		storage = allocated
	}
	storage = storage.DeepCopy()
	storage.RoundUp(0)
	out[corev1.ResourceRequestsStorage] = storage
	if class != "" {
		out[corev1.ResourceName(class+byClass+string(corev1.ResourceRequestsStorage))] = storage
	}
	return out
}
