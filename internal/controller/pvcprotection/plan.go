package pvcprotection

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/utils/ptr"
)

// finalizer keeps a claim that is in use.
const finalizer = "kubernetes.io/pvc-protection"

// verdict is what is due for a claim.
type verdict int

const (
	keep verdict = iota
	protect
	release // if no pod uses it
)

func judge(claim *corev1.PersistentVolumeClaim) verdict {
	protected := slices.Contains(claim.Finalizers, finalizer)
	switch deleting := claim.DeletionTimestamp != nil; {
	case deleting && protected:
		return release
	case !deleting && !protected:
		return protect
	}
	return keep
}

// claimNames lists the claims that a pod names.
func claimNames(pod *corev1.Pod) []string {
	var out []string
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			out = append(out, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			out = append(out, ephemeral.VolumeClaimName(pod, v))
		}
	}
	return out
}

// uses tells whether a pod keeps a claim of its namespace. A claim that only has the name of the pod's ephemeral volume isn't the pod's.
func uses(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	if pod.Spec.NodeName == "" {
		return false
	}
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name ||
			!shutDown(pod) && v.Ephemeral != nil && ephemeral.VolumeClaimName(pod, &v) == claim.Name && ephemeral.VolumeIsForPod(pod, claim) == nil
	})
}

// shutDown tells whether the kubelet has given back all that a pod has used, or somebody has said that it won't. The claims of such a pod's ephemeral
// volumes must go before it: its deletion may wait for theirs.
func shutDown(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && ptr.Equal(pod.DeletionGracePeriodSeconds, new(int64(0)))
}
