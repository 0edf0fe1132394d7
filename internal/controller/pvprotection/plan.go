package pvprotection

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// finalizer keeps a volume that is in use.
const finalizer = "kubernetes.io/pv-protection"

// finalizers returns those that a volume should have; false if it has them.
func finalizers(volume *corev1.PersistentVolume) ([]string, bool) {
	protected := slices.Contains(volume.Finalizers, finalizer)
	switch deleting := volume.DeletionTimestamp != nil; {
	case deleting && protected && volume.Status.Phase != corev1.VolumeBound:
		return slices.DeleteFunc(slices.Clone(volume.Finalizers), func(f string) bool { return f == finalizer }), true
	case !deleting && !protected:
		return append(slices.Clone(volume.Finalizers), finalizer), true
	}
	return nil, false
}
