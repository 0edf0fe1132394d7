package csi

import (
	"crypto/sha256"
	"fmt"
	"slices"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"clipper.dev/clipper/internal/kubelet/volumes"
)

// volume is what a persistent or an inline volume says of itself.
type volume struct {
	name       string // of the persistent volume, or of the pod's
	driver     string
	handle     string
	mode       storagev1.VolumeLifecycleMode
	block      bool
	readOnly   bool
	fsType     string
	attributes map[string]string
	modes      []corev1.PersistentVolumeAccessMode
	options    []string // of the mount

	publishSecret, stageSecret, expandSecret *corev1.SecretReference

	claim    *corev1.PersistentVolumeClaim
	capacity int64 // of the persistent volume, in bytes
}

// describe reads a request, which is for a volume of a CSI driver.
func describe(r *volumes.Request) *volume {
	if r.PV == nil {
		return describeInline(r)
	}
	pv, s := r.PV, r.PV.Spec.CSI
	size := pv.Spec.Capacity[corev1.ResourceStorage]
	return &volume{
		name: pv.Name, driver: s.Driver, handle: s.VolumeHandle, mode: storagev1.VolumeLifecyclePersistent,
		block:    pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode == corev1.PersistentVolumeBlock,
		readOnly: r.ReadOnly, fsType: s.FSType, attributes: s.VolumeAttributes, modes: pv.Spec.AccessModes, options: pv.Spec.MountOptions,
		publishSecret: s.NodePublishSecretRef, stageSecret: s.NodeStageSecretRef, expandSecret: s.NodeExpandSecretRef,
		claim: r.Claim, capacity: size.Value(),
	}
}

// describeInline reads a volume that lives and dies with its pod.
func describeInline(r *volumes.Request) *volume {
	s := r.Volume.CSI
	v := &volume{
		name: r.Volume.Name, driver: s.Driver, handle: inlineHandle(r.Pod, r.Volume.Name), mode: storagev1.VolumeLifecycleEphemeral,
		readOnly: s.ReadOnly != nil && *s.ReadOnly, attributes: s.VolumeAttributes,
	}
	if s.FSType != nil {
		v.fsType = *s.FSType
	}
	if s.NodePublishSecretRef != nil {
		v.publishSecret = &corev1.SecretReference{Namespace: r.Pod.Namespace, Name: s.NodePublishSecretRef.Name}
	}
	return v
}

// inlineHandle names an inline volume to its driver.
func inlineHandle(pod *corev1.Pod, volume string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(pod.Namespace+string(pod.UID)+volume)))
}

// attachmentName names the attachment of a driver's volume to a node.
func attachmentName(handle, driver, node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(handle+driver+node)))
}

func (v *volume) uniqueName() corev1.UniqueVolumeName {
	return record{Driver: v.driver, Handle: v.handle}.name()
}

// firstStep names the step that needs the driver first.
func (v *volume) firstStep() string {
	switch {
	case v.block:
		return "MapVolume.SetUpDevice"
	case v.mode == storagev1.VolumeLifecyclePersistent:
		return "MountVolume.MountDevice"
	}
	return "MountVolume.SetUp"
}

// checkMode tells whether a driver serves volumes of this kind.
func (v *volume) checkMode(info *storagev1.CSIDriver) error {
	modes := []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	if info == nil && v.mode == storagev1.VolumeLifecycleEphemeral {
		return fmt.Errorf("volume mode %q not supported by driver %s (no CSIDriver object)", v.mode, v.driver)
	}
	if info != nil && len(info.Spec.VolumeLifecycleModes) > 0 {
		modes = info.Spec.VolumeLifecycleModes
	}
	if !slices.Contains(modes, v.mode) {
		return fmt.Errorf("volume mode %q not supported by driver %s (only supports %q)", v.mode, v.driver, modes)
	}
	return nil
}

// attachable tells whether a volume has to be attached first.
func attachable(info *storagev1.CSIDriver) bool {
	return info == nil || info.Spec.AttachRequired == nil || *info.Spec.AttachRequired
}

// capability says how a volume is to be used. group is whom the driver shall give it to; nil leaves that to the kubelet.
func (v *volume) capability(d *driver, group *int64) *csipb.VolumeCapability {
	c := &csipb.VolumeCapability{AccessMode: &csipb.VolumeCapability_AccessMode{Mode: v.accessMode(d)}}
	if v.block {
		c.AccessType = &csipb.VolumeCapability_Block{Block: &csipb.VolumeCapability_BlockVolume{}}
		return c
	}
	mount := &csipb.VolumeCapability_MountVolume{FsType: v.fsType, MountFlags: v.options}
	if group != nil && d.groups() {
		mount.VolumeMountGroup = fmt.Sprint(*group)
	}
	c.AccessType = &csipb.VolumeCapability_Mount{Mount: mount}
	return c
}

func (v *volume) accessMode(d *driver) csipb.VolumeCapability_AccessMode_Mode {
	mode := corev1.ReadWriteOnce
	if len(v.modes) > 0 {
		mode = v.modes[0]
	}
	exact := d.can[csipb.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER]
	switch mode {
	case corev1.ReadOnlyMany:
		return csipb.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	case corev1.ReadWriteMany:
		return csipb.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	case corev1.ReadWriteOncePod:
		if exact {
			return csipb.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
		}
	default:
		if exact {
			return csipb.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
		}
	}
	return csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
}

// ownedByGroup tells whether the kubelet gives the contents to the pod's group.
func (v *volume) ownedByGroup(info *storagev1.CSIDriver) bool {
	policy := storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy
	if info != nil && info.Spec.FSGroupPolicy != nil {
		policy = *info.Spec.FSGroupPolicy
	}
	switch {
	case v.block || v.readOnly || policy == storagev1.NoneFSGroupPolicy:
		return false
	case policy == storagev1.FileFSGroupPolicy:
		return true
	case v.fsType == "":
		return false
	case v.mode == storagev1.VolumeLifecycleEphemeral:
		return true
	}
	return slices.Contains(v.modes, corev1.ReadWriteOnce) || slices.Contains(v.modes, corev1.ReadWriteOncePod)
}
