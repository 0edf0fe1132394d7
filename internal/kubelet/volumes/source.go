package volumes

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// resolve finds the persistent volume behind a claim.
func (m *Manager) resolve(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (Source, error) {
	src := Source{Volume: v}
	name := ""
	switch {
	case v.PersistentVolumeClaim != nil:
		name, src.ReadOnly = v.PersistentVolumeClaim.ClaimName, v.PersistentVolumeClaim.ReadOnly
	case v.Ephemeral != nil:
		name = pod.Name + "-" + v.Name
	default:
		return src, nil
	}
	pvc, err := m.cfg.Host.Claim(ctx, pod.Namespace, name)
	if err != nil {
		return src, fmt.Errorf("error processing PVC %s/%s: failed to fetch PVC from API server: %w", pod.Namespace, name, err)
	}
	if v.Ephemeral != nil && !ownedBy(pvc, pod) {
		return src, fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", pod.Namespace, name, pod.Namespace, pod.Name)
	}
	if pvc.Status.Phase != corev1.ClaimBound || pvc.Spec.VolumeName == "" {
		return src, fmt.Errorf("error processing PVC %s/%s: PVC is not bound", pod.Namespace, name)
	}
	pv, err := m.cfg.Host.PersistentVolume(ctx, pvc.Spec.VolumeName)
	if err != nil {
		return src, fmt.Errorf("error processing PVC %s/%s: failed to fetch PV %s from API server: %w", pod.Namespace, name, pvc.Spec.VolumeName, err)
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.UID != pvc.UID {
		return src, fmt.Errorf("error processing PVC %s/%s: PV %s is bound to another claim", pod.Namespace, name, pv.Name)
	}
	src.PV, src.Claim = pv, pvc
	return src, checkUse(pod, v.Name, pv)
}

// checkUse refuses a device that containers would mount, and a file system that they want as a device.
func checkUse(pod *corev1.Pod, name string, pv *corev1.PersistentVolume) error {
	mode := corev1.PersistentVolumeFilesystem
	if pv.Spec.VolumeMode != nil {
		mode = *pv.Spec.VolumeMode
	}
	if mode != corev1.PersistentVolumeFilesystem && inContainers(pod, func(c *corev1.Container) bool { return mountsVolume(c, name) }) {
		return fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeMounts", name, mode)
	}
	if mode != corev1.PersistentVolumeBlock && inContainers(pod, func(c *corev1.Container) bool { return takesDevice(c, name) }) {
		return fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeDevices", name, mode)
	}
	return nil
}

func mountsVolume(c *corev1.Container, name string) bool {
	return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == name })
}

func takesDevice(c *corev1.Container, name string) bool {
	return slices.ContainsFunc(c.VolumeDevices, func(d corev1.VolumeDevice) bool { return d.Name == name })
}

func ownedBy(pvc *corev1.PersistentVolumeClaim, pod *corev1.Pod) bool {
	return slices.ContainsFunc(pvc.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == pod.UID && o.Controller != nil && *o.Controller })
}

// used tells whether any container mounts the volume.
func used(pod *corev1.Pod, name string) bool {
	return inContainers(pod, func(c *corev1.Container) bool {
		return mountsVolume(c, name) || takesDevice(c, name) || slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return e.ValueFrom != nil && e.ValueFrom.FileKeyRef != nil && e.ValueFrom.FileKeyRef.VolumeName == name
		})
	})
}

// inContainers tells whether something holds for any container of a pod.
func inContainers(pod *corev1.Pod, holds func(*corev1.Container) bool) bool {
	for i := range pod.Spec.InitContainers {
		if holds(&pod.Spec.InitContainers[i]) {
			return true
		}
	}
	for i := range pod.Spec.Containers {
		if holds(&pod.Spec.Containers[i]) {
			return true
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if holds((*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)) {
			return true
		}
	}
	return false
}

// fsUser returns the user that all containers of the pod run as, if they agree.
func fsUser(pod *corev1.Pod) *int64 {
	var user *int64
	var shared *int64
	if sc := pod.Spec.SecurityContext; sc != nil {
		shared = sc.RunAsUser
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			u := shared
			if sc := list[i].SecurityContext; sc != nil && sc.RunAsUser != nil {
				u = sc.RunAsUser
			}
			if u == nil || user != nil && *user != *u {
				return nil
			}
			user = u
		}
	}
	return user
}
