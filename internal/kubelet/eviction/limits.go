package eviction

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// The signals under which evictions are counted of pods that exceed their own limits on local storage.
const (
	emptyDirLimit  = "emptydirfs.limit"
	podLimit       = "ephemeralpodfs.limit"
	containerLimit = "ephemeralcontainerfs.limit"
)

// OverLimit returns the pod as a victim if it exceeds a limit of its own on local storage, and the signal that this counts under. volumes are its
// emptyDirs on disk.
func OverLimit(u *Usage, volumes map[string]VolumeUsage) (signal string, v *Victim) {
	over := func(signal, message string) (string, *Victim) {
		return signal, &Victim{Pod: u.Pod, Message: message, GraceSeconds: immediately}
	}
	for i := range u.Pod.Spec.Volumes {
		v := &u.Pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if used, ok := volumes[v.Name]; ok && used.Disk > v.EmptyDir.SizeLimit.Value() {
			return over(emptyDirLimit, fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String()))
		}
	}
	limits := resourcehelper.PodLimits(u.Pod, resourcehelper.PodResourcesOptions{})
	if limit, ok := limits[corev1.ResourceEphemeralStorage]; ok && u.Disk > limit.Value() {
		return over(podLimit, fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String()))
	}
	for i := range u.Pod.Spec.Containers {
		c := &u.Pod.Spec.Containers[i]
		if limit, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]; ok && u.Containers[c.Name].Disk > limit.Value() {
			return over(containerLimit, fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String()))
		}
	}
	return "", nil
}

// Limited tells whether the pod has a limit on local storage, so that it has to be measured.
func Limited(pod *corev1.Pod) bool {
	if slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault && v.EmptyDir.SizeLimit != nil && v.EmptyDir.SizeLimit.Sign() > 0
	}) {
		return true
	}
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		_, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]
		return ok
	})
}
