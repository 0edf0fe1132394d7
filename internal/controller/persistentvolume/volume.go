package persistentvolume

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"
)

// failedDelete is why a volume that was released stays.
const failedDelete = "VolumeFailedDelete"

// volumeStep is what is due for a volume.
type volumeStep struct {
	phase       corev1.PersistentVolumePhase // "" leaves it
	message     string                       // of the status, with the phase
	notice      *notice
	claimNotice *notice // about the claim
	unbind      bool    // take back what was done towards a binding
	reclaim     reclaim // what is to be done to the contents, once the phase is written
}

// planVolume decides about a volume. claim is the one that it names, nil if that is gone.
func planVolume(volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) volumeStep {
	ref := volume.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		return volumeStep{phase: corev1.VolumeAvailable}
	}
	if claim == nil || claim.UID != ref.UID {
		return release(volume)
	}
	switch claim.Spec.VolumeName {
	case volume.Name:
		return volumeStep{phase: corev1.VolumeBound}
	case "":
		if !volumehelpers.CheckVolumeModeMismatches(&claim.Spec, &volume.Spec) {
			return volumeStep{} // the claim's step goes on from here
		}
		return volumeStep{
			notice:      warning("VolumeMismatch", "Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode.", claim.Name),
			claimNotice: warning("VolumeMismatch", "Cannot bind PersistentVolume %q to requested PersistentVolumeClaim due to incompatible volumeMode.", volume.Name),
		}
	}
	if metav1.HasAnnotation(volume.ObjectMeta, volumehelpers.AnnDynamicallyProvisioned) && volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		return release(volume) // it was made for the claim, which got another
	}
	return volumeStep{unbind: true, phase: corev1.VolumeAvailable}
}

// release ends a volume's use by the reclaim policy. Volumes that somebody else made are deleted by who made them, once they are Released.
func release(volume *corev1.PersistentVolume) volumeStep {
	if how := reclaimable(volume); how != nothing {
		if volume.Status.Phase == corev1.VolumeFailed {
			return volumeStep{reclaim: how} // it's tried again
		}
		return volumeStep{phase: corev1.VolumeReleased, reclaim: how}
	}
	if volume.Status.Phase == corev1.VolumeFailed {
		return volumeStep{}
	}
	failed := func(reason, message string) volumeStep {
		return volumeStep{phase: corev1.VolumeFailed, message: message, notice: warning(reason, "%s", message)}
	}
	switch volume.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimRecycle:
		return failed("VolumeFailedRecycle", "No recycler plugin found for the volume!")
	case corev1.PersistentVolumeReclaimDelete:
		if !external(volume) {
			return failed(failedDelete, "error getting deleter volume plugin for volume \""+volume.Name+"\": no deletable volume plugin matched")
		}
	}
	return volumeStep{phase: corev1.VolumeReleased}
}

// unbound returns a volume without what a binding wrote into it.
func unbound(volume *corev1.PersistentVolume) *corev1.PersistentVolume {
	out := volume.DeepCopy()
	if metav1.HasAnnotation(out.ObjectMeta, volumehelpers.AnnBoundByController) {
		out.Spec.ClaimRef = nil
		delete(out.Annotations, volumehelpers.AnnBoundByController)
		return out
	}
	out.Spec.ClaimRef.UID = "" // a person has chosen the claim
	return out
}
