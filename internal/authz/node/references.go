package node

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
)

// containers yields all containers of a pod, the ephemeral ones as ordinary ones.
func containers(spec *corev1.PodSpec) iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
		for i := range spec.EphemeralContainers {
			c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
			if !yield(&c) {
				return
			}
		}
	}
}

// Secrets yields the names of the Secrets that a pod refers to, some perhaps twice.
func Secrets(pod *corev1.Pod) iter.Seq[string] {
	return named(func(yield func(string) bool) bool {
		for _, r := range pod.Spec.ImagePullSecrets {
			if !yield(r.Name) {
				return false
			}
		}
		for c := range containers(&pod.Spec) {
			for _, e := range c.EnvFrom {
				if e.SecretRef != nil && !yield(e.SecretRef.Name) {
					return false
				}
			}
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !yield(e.ValueFrom.SecretKeyRef.Name) {
					return false
				}
			}
		}
		for i := range pod.Spec.Volumes {
			for _, name := range volumeSecrets(&pod.Spec.Volumes[i].VolumeSource) {
				if !yield(name) {
					return false
				}
			}
		}
		return true
	})
}

func volumeSecrets(v *corev1.VolumeSource) []string {
	local := func(r *corev1.LocalObjectReference) []string {
		if r == nil {
			return nil
		}
		return []string{r.Name}
	}
	switch {
	case v.Secret != nil:
		return []string{v.Secret.SecretName}
	case v.Projected != nil:
		var out []string
		for _, s := range v.Projected.Sources {
			if s.Secret != nil {
				out = append(out, s.Secret.Name)
			}
		}
		return out
	case v.AzureFile != nil:
		return []string{v.AzureFile.SecretName}
	case v.CephFS != nil:
		return local(v.CephFS.SecretRef)
	case v.Cinder != nil:
		return local(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		return local(v.FlexVolume.SecretRef)
	case v.RBD != nil:
		return local(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		return local(v.ScaleIO.SecretRef)
	case v.ISCSI != nil:
		return local(v.ISCSI.SecretRef)
	case v.StorageOS != nil:
		return local(v.StorageOS.SecretRef)
	case v.CSI != nil:
		return local(v.CSI.NodePublishSecretRef)
	}
	return nil
}

// ConfigMaps yields the names of the ConfigMaps that a pod refers to, some perhaps twice.
func ConfigMaps(pod *corev1.Pod) iter.Seq[string] {
	return named(func(yield func(string) bool) bool {
		for c := range containers(&pod.Spec) {
			for _, e := range c.EnvFrom {
				if e.ConfigMapRef != nil && !yield(e.ConfigMapRef.Name) {
					return false
				}
			}
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil && !yield(e.ValueFrom.ConfigMapKeyRef.Name) {
					return false
				}
			}
		}
		for i := range pod.Spec.Volumes {
			v := &pod.Spec.Volumes[i]
			if v.ConfigMap != nil && !yield(v.ConfigMap.Name) {
				return false
			}
			if v.Projected == nil {
				continue
			}
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil && !yield(s.ConfigMap.Name) {
					return false
				}
			}
		}
		return true
	})
}

// Claims yields the names of the PersistentVolumeClaims that a pod uses, its ephemeral ones included.
func Claims(pod *corev1.Pod) iter.Seq[string] {
	return named(func(yield func(string) bool) bool {
		for _, v := range pod.Spec.Volumes {
			name := ""
			switch {
			case v.PersistentVolumeClaim != nil:
				name = v.PersistentVolumeClaim.ClaimName
			case v.Ephemeral != nil:
				name = pod.Name + "-" + v.Name
			}
			if !yield(name) {
				return false
			}
		}
		return true
	})
}

// ResourceClaims yields the names of the ResourceClaims that a pod uses, those made from templates by their status.
func ResourceClaims(pod *corev1.Pod) iter.Seq[string] {
	return named(func(yield func(string) bool) bool {
		for _, c := range pod.Spec.ResourceClaims {
			if c.ResourceClaimName != nil && !yield(*c.ResourceClaimName) {
				return false
			}
		}
		for _, s := range pod.Status.ResourceClaimStatuses {
			if s.ResourceClaimName != nil && !yield(*s.ResourceClaimName) {
				return false
			}
		}
		if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
			return yield(s.ResourceClaimName)
		}
		return true
	})
}

// named makes a sequence of a visitor and passes over empty names.
func named(visit func(yield func(string) bool) bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		visit(func(name string) bool { return name == "" || yield(name) })
	}
}

// has tells whether a sequence has an element.
func has(seq iter.Seq[string], want string) bool {
	for name := range seq {
		if name == want {
			return true
		}
	}
	return false
}

// volumeSecretKeys returns the Secrets of a volume that a kubelet needs, with their namespaces.
func volumeSecretKeys(pv *corev1.PersistentVolume) []corev1.SecretReference {
	claimNamespace := ""
	if pv.Spec.ClaimRef != nil {
		claimNamespace = pv.Spec.ClaimRef.Namespace
	}
	var out []corev1.SecretReference
	add := func(namespace string, refs ...*corev1.SecretReference) {
		for _, r := range refs {
			if r == nil {
				continue
			}
			key := *r
			if key.Namespace == "" {
				key.Namespace = namespace
			}
			out = append(out, key)
		}
	}
	switch s := &pv.Spec.PersistentVolumeSource; {
	case s.AzureFile != nil:
		key := &corev1.SecretReference{Name: s.AzureFile.SecretName}
		if s.AzureFile.SecretNamespace != nil {
			key.Namespace = *s.AzureFile.SecretNamespace
		}
		add(claimNamespace, key)
	case s.CephFS != nil:
		add(claimNamespace, s.CephFS.SecretRef)
	case s.Cinder != nil:
		add("", s.Cinder.SecretRef)
	case s.FlexVolume != nil:
		add(claimNamespace, s.FlexVolume.SecretRef)
	case s.RBD != nil:
		add(claimNamespace, s.RBD.SecretRef)
	case s.ScaleIO != nil:
		add(claimNamespace, s.ScaleIO.SecretRef)
	case s.ISCSI != nil:
		add(claimNamespace, s.ISCSI.SecretRef)
	case s.StorageOS != nil && s.StorageOS.SecretRef != nil:
		add("", &corev1.SecretReference{Namespace: s.StorageOS.SecretRef.Namespace, Name: s.StorageOS.SecretRef.Name})
	case s.CSI != nil:
		add("", s.CSI.NodePublishSecretRef, s.CSI.NodeStageSecretRef, s.CSI.NodeExpandSecretRef)
	}
	return out
}
