package scheduler

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	volumehelpers "k8s.io/component-helpers/storage/volume"
)

// volumes is what the scheduler knows of storage. All objects are read-only.
type volumes struct {
	claims      map[string]*corev1.PersistentVolumeClaim // by namespace/name
	volumes     map[string]*corev1.PersistentVolume
	classes     map[string]*storagev1.StorageClass
	csiNodes    map[string]*storagev1.CSINode
	drivers     map[string]*storagev1.CSIDriver
	capacities  map[string]*storagev1.CSIStorageCapacity // by namespace/name
	attachments map[string]*storagev1.VolumeAttachment
	users       map[string]int // by claim: the pods that have a node
}

func newVolumes() volumes {
	return volumes{
		claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{}, classes: map[string]*storagev1.StorageClass{},
		csiNodes: map[string]*storagev1.CSINode{}, drivers: map[string]*storagev1.CSIDriver{}, capacities: map[string]*storagev1.CSIStorageCapacity{},
		attachments: map[string]*storagev1.VolumeAttachment{}, users: map[string]int{},
	}
}

// put keeps an object under its key, or forgets it when it is gone.
func put[T any](m map[string]*T, key string, obj *T) {
	if obj == nil {
		delete(m, key)
		return
	}
	m[key] = obj
}

// claimRef is a claim that a pod names.
type claimRef struct {
	name      string
	ephemeral bool
}

// claimRefs lists the claims of a pod, those of ephemeral volumes too.
func claimRefs(pod *corev1.Pod) []claimRef {
	var out []claimRef
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			out = append(out, claimRef{name: v.PersistentVolumeClaim.ClaimName})
		case v.Ephemeral != nil:
			out = append(out, claimRef{ephemeral.VolumeClaimName(pod, v), true})
		}
	}
	return out
}

// looksAtVolumes tells whether storage decides where a pod may go.
func looksAtVolumes(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.PersistentVolumeClaim != nil || v.Ephemeral != nil || isExclusive(v) {
			return true
		}
	}
	return false
}

func claimKey(namespace, name string) string { return namespace + "/" + name }

// countClaims keeps how many pods use each claim.
func (v *volumes) countClaims(p *podInfo, sign int) {
	for i := range p.pod.Spec.Volumes {
		source := p.pod.Spec.Volumes[i].PersistentVolumeClaim
		if source == nil {
			continue
		}
		key := claimKey(p.pod.Namespace, source.ClaimName)
		if v.users[key] += sign; v.users[key] <= 0 {
			delete(v.users, key)
		}
	}
}

// waitsForConsumer tells whether a claim is bound only when a pod that uses it has a node.
func (v *volumes) waitsForConsumer(claim *corev1.PersistentVolumeClaim) bool {
	class := v.classes[volumehelpers.GetPersistentVolumeClaimClass(claim)]
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

func bound(claim *corev1.PersistentVolumeClaim) bool {
	_, complete := claim.Annotations[volumehelpers.AnnBindCompleted]
	return claim.Spec.VolumeName != "" && complete
}

func claimNotFound(name string) string {
	return fmt.Sprintf("persistentvolumeclaim %q not found", name)
}
func volumeNotFound(name string) string { return fmt.Sprintf("persistentvolume %q not found", name) }
