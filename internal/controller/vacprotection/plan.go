package vacprotection

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// finalizer keeps a class that is in use.
const finalizer = "kubernetes.io/vac-protection"

// ofClaim lists the classes that a claim has, asks for, or is being changed to.
func ofClaim(claim *corev1.PersistentVolumeClaim) []string {
	classes := []*string{claim.Spec.VolumeAttributesClassName, claim.Status.CurrentVolumeAttributesClassName}
	if m := claim.Status.ModifyVolumeStatus; m != nil {
		classes = append(classes, &m.TargetVolumeAttributesClassName)
	}
	return named(classes...)
}

// ofVolume lists the classes that a volume has.
func ofVolume(volume *corev1.PersistentVolume) []string {
	return named(volume.Spec.VolumeAttributesClassName)
}

func named(classes ...*string) []string {
	var out []string
	for _, c := range classes {
		if c != nil && *c != "" && !slices.Contains(out, *c) {
			out = append(out, *c)
		}
	}
	return out
}

// finalizers returns those that a class should have; false if it has them. used is asked only if it matters.
func finalizers(class *storagev1.VolumeAttributesClass, used func() bool) ([]string, bool) {
	protected := slices.Contains(class.Finalizers, finalizer)
	switch deleting := class.DeletionTimestamp != nil; {
	case deleting && protected && !used():
		return slices.DeleteFunc(slices.Clone(class.Finalizers), func(f string) bool { return f == finalizer }), true
	case !deleting && !protected:
		return append(slices.Clone(class.Finalizers), finalizer), true
	}
	return nil, false
}
