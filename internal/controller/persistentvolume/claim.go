package persistentvolume

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	volumehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// notice is an event to record about the object that was looked at.
type notice struct {
	kind, reason, message string
}

func warning(reason, format string, args ...any) *notice {
	return &notice{corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...)}
}

func normal(reason, format string, args ...any) *notice {
	return &notice{corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...)}
}

// claimStep is what is due for a claim. At most one of bind, class, provisioner and phase is set.
type claimStep struct {
	bind        *corev1.PersistentVolume // bind the claim and this volume to each other
	class       string                   // give the claim this class, the default one
	provisioner string                   // ask this provisioner for a volume
	phase       corev1.PersistentVolumeClaimPhase
	notice      *notice
	onChange    bool // the notice is due only if the phase changes
}

// world is what a claim's step depends on.
type world struct {
	volume       func(name string) *corev1.PersistentVolume // nil if there is none
	volumes      func() []*corev1.PersistentVolume
	class        func(name string) *storagev1.StorageClass // nil if there is none
	defaultClass func() string                             // "" if there is none
	waitingPods  func() []string                           // the pods that name the claim and have no node
}

func planClaim(claim *corev1.PersistentVolumeClaim, w world) (claimStep, error) {
	if metav1.HasAnnotation(claim.ObjectMeta, volumehelpers.AnnBindCompleted) {
		return planBound(claim, w), nil
	}
	if claim.Spec.VolumeName != "" {
		return planNamed(claim, w.volume(claim.Spec.VolumeName))
	}
	return planFree(claim, w)
}

// planBound looks whether a binding that was complete still holds.
func planBound(claim *corev1.PersistentVolumeClaim, w world) claimStep {
	lost := func(reason, message string) claimStep {
		return claimStep{phase: corev1.ClaimLost, notice: warning(reason, "%s", message), onChange: true}
	}
	if claim.Spec.VolumeName == "" {
		return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	}
	volume := w.volume(claim.Spec.VolumeName)
	switch {
	case volume == nil:
		return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case volume.Spec.ClaimRef == nil || volume.Spec.ClaimRef.UID == claim.UID:
		return claimStep{bind: volume}
	}
	return lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

// planNamed looks at a claim that asks for one volume.
func planNamed(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) (claimStep, error) {
	switch {
	case volume == nil:
		return claimStep{phase: corev1.ClaimPending}, nil
	case volume.Spec.ClaimRef == nil:
		if err := satisfies(volume, claim); err != nil {
			return claimStep{phase: corev1.ClaimPending, notice: warning("VolumeMismatch", "Cannot bind to requested volume %q: %s", volume.Name, err)}, nil
		}
		return claimStep{bind: volume}, nil
	case volumehelpers.IsVolumeBoundToClaim(volume, claim):
		return claimStep{bind: volume}, nil
	}
	taken := warning("FailedBinding", "volume %q already bound to a different claim.", volume.Name)
	if metav1.HasAnnotation(claim.ObjectMeta, volumehelpers.AnnBoundByController) {
		return claimStep{notice: taken}, fmt.Errorf("invalid binding of claim %s/%s to volume %q: volume already claimed by %s/%s",
			claim.Namespace, claim.Name, volume.Name, volume.Spec.ClaimRef.Namespace, volume.Spec.ClaimRef.Name)
	}
	return claimStep{phase: corev1.ClaimPending, notice: taken}, nil
}

// planFree looks for a volume.
func planFree(claim *corev1.PersistentVolumeClaim, w world) (claimStep, error) {
	name := volumehelpers.GetPersistentVolumeClaimClass(claim)
	class := w.class(name)
	delayed := class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
	found, err := best(claim, w.volumes(), delayed)
	if err != nil {
		return claimStep{}, fmt.Errorf("error finding PV for claim %q: %w", claim.Namespace+"/"+claim.Name, err)
	}
	if found != nil {
		return claimStep{bind: found}, nil
	}
	if !volumehelpers.PersistentVolumeClaimHasClass(claim) {
		if assigned := w.defaultClass(); assigned != "" {
			return claimStep{class: assigned}, nil
		}
	}
	pending := claimStep{phase: corev1.ClaimPending}
	switch {
	case delayed && !volumehelpers.IsDelayBindingProvisioning(claim):
		pending.notice = waits(w.waitingPods())
	case name == "":
		pending.notice = normal("FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	case class == nil:
		pending.notice = warning("ProvisioningFailed", "storageclass.storage.k8s.io %q not found", name)
	case strings.HasPrefix(class.Provisioner, "kubernetes.io/"):
		pending.notice = warning("ProvisioningFailed", "no volume plugin matched name: %s", class.Provisioner)
	default:
		return claimStep{provisioner: class.Provisioner, notice: normal("ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' "+
			"or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.Provisioner)}, nil
	}
	return pending, nil
}

func waits(pods []string) *notice {
	switch len(pods) {
	case 0:
		return normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	case 1:
		return normal("WaitForPodScheduled", "waiting for pod %s to be scheduled", pods[0])
	}
	return normal("WaitForPodScheduled", "waiting for pods %s to be scheduled", strings.Join(pods, ","))
}

// best returns the volume that fits a claim: one that is meant for it, or else the smallest of those with the fewest access modes.
func best(claim *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume, delayed bool) (*corev1.PersistentVolume, error) {
	fit := slices.DeleteFunc(slices.Clone(volumes), func(v *corev1.PersistentVolume) bool { return !volumehelpers.CheckAccessModes(claim, v) })
	for _, v := range fit {
		if volumehelpers.IsVolumeBoundToClaim(v, claim) {
			return volumehelpers.FindMatchingVolume(claim, []*corev1.PersistentVolume{v}, nil, nil, delayed, true)
		}
	}
	slices.SortStableFunc(fit, func(a, b *corev1.PersistentVolume) int {
		return cmp.Compare(len(a.Spec.AccessModes), len(b.Spec.AccessModes))
	})
	for len(fit) > 0 {
		same := len(fit)
		if i := slices.IndexFunc(fit, func(v *corev1.PersistentVolume) bool { return len(v.Spec.AccessModes) != len(fit[0].Spec.AccessModes) }); i > 0 {
			same = i
		}
		found, err := volumehelpers.FindMatchingVolume(claim, fit[:same], nil, nil, delayed, true)
		if found != nil || err != nil {
			return found, err
		}
		fit = fit[same:]
	}
	return nil, nil
}

// satisfies says why a volume that a claim names can't be the claim's.
func satisfies(volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	size, wanted := volume.Spec.Capacity[corev1.ResourceStorage], claim.Spec.Resources.Requests[corev1.ResourceStorage]
	switch {
	case volume.DeletionTimestamp != nil:
		return fmt.Errorf("the volume is marked for deletion %q", volume.Name)
	case size.Value() < wanted.Value():
		return errors.New("requested PV is too small")
	case volumehelpers.GetPersistentVolumeClass(volume) != volumehelpers.GetPersistentVolumeClaimClass(claim):
		return errors.New("storageClassName does not match")
	case ptr.Deref(claim.Spec.VolumeAttributesClassName, "") != ptr.Deref(volume.Spec.VolumeAttributesClassName, ""):
		return errors.New("volumeAttributesClassName does not match")
	case volumehelpers.CheckVolumeModeMismatches(&claim.Spec, &volume.Spec):
		return errors.New("incompatible volumeMode")
	case !volumehelpers.CheckAccessModes(claim, volume):
		return errors.New("incompatible accessMode")
	}
	return nil
}
