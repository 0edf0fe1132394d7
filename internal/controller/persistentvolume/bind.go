package persistentvolume

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"

	"clipper.dev/clipper/internal/client"
)

// bind makes the volume and the claim name each other and says so in their statuses; what is there already isn't written again.
func (r *reconciler) bind(ctx context.Context, volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	changed, dirty, err := volumehelpers.GetBindVolumeToClaim(volume, claim)
	if err != nil {
		return fmt.Errorf("bind volume %s: %w", volume.Name, err)
	}
	if dirty {
		if volume, err = client.PersistentVolumes.Update(ctx, r.client, changed); err != nil {
			return fmt.Errorf("bind volume %s to claim %s/%s: %w", changed.Name, claim.Namespace, claim.Name, err)
		}
	}
	if _, err := r.setVolumePhase(ctx, volume, corev1.VolumeBound, ""); err != nil {
		return err
	}
	if wanted := boundClaim(claim, volume); wanted != nil {
		if claim, err = client.PersistentVolumeClaims.Update(ctx, r.client, wanted); err != nil {
			return fmt.Errorf("bind claim %s/%s to volume %s: %w", wanted.Namespace, wanted.Name, volume.Name, err)
		}
	}
	return r.setClaimStatus(ctx, claim, claimStatus(claim, corev1.ClaimBound, volume))
}

// boundClaim returns the claim with its half of the binding; nil if it has it.
func boundClaim(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	named := claim.Spec.VolumeName == volume.Name
	if named && metav1.HasAnnotation(claim.ObjectMeta, volumehelpers.AnnBindCompleted) {
		return nil
	}
	out := claim.DeepCopy()
	if !named {
		out.Spec.VolumeName = volume.Name
		metav1.SetMetaDataAnnotation(&out.ObjectMeta, volumehelpers.AnnBoundByController, "yes")
	}
	metav1.SetMetaDataAnnotation(&out.ObjectMeta, volumehelpers.AnnBindCompleted, "yes")
	return out
}

// claimStatus returns a claim's status in a phase. volume is what it is bound to, nil for none. The capacity is taken over only when the
// claim becomes bound: later the two may differ, while a file system still has to grow.
func claimStatus(claim *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase, volume *corev1.PersistentVolume) corev1.PersistentVolumeClaimStatus {
	s := *claim.Status.DeepCopy()
	becomes := s.Phase != phase
	s.Phase = phase
	if volume == nil {
		s.AccessModes, s.Capacity, s.CurrentVolumeAttributesClassName = nil, nil, nil
		return s
	}
	s.AccessModes = slices.Clone(volume.Spec.AccessModes)
	if becomes {
		s.Capacity = maps.Clone(volume.Spec.Capacity)
		if class := volume.Spec.VolumeAttributesClassName; class != nil && s.CurrentVolumeAttributesClassName == nil {
			s.CurrentVolumeAttributesClassName = new(*class)
		}
	}
	return s
}

func (r *reconciler) setClaimStatus(ctx context.Context, claim *corev1.PersistentVolumeClaim, status corev1.PersistentVolumeClaimStatus) error {
	if equality.Semantic.DeepEqual(claim.Status, status) {
		return nil
	}
	changed := claim.DeepCopy()
	changed.Status = status
	if _, err := client.PersistentVolumeClaims.UpdateStatus(ctx, r.client, changed); err != nil {
		return fmt.Errorf("set claim %s/%s to %s: %w", claim.Namespace, claim.Name, status.Phase, err)
	}
	return nil
}

// setVolumePhase writes the phase, and returns whether that was a change.
func (r *reconciler) setVolumePhase(ctx context.Context, volume *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) (bool, error) {
	if volume.Status.Phase == phase {
		return false, nil
	}
	changed := volume.DeepCopy()
	changed.Status.Phase, changed.Status.Message = phase, message
	if _, err := client.PersistentVolumes.UpdateStatus(ctx, r.client, changed); err != nil {
		return false, fmt.Errorf("set volume %s to %s: %w", volume.Name, phase, err)
	}
	return true, nil
}
