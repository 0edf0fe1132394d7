package node

import (
	corev1 "k8s.io/api/core/v1"
)

// relation tells whether an object belongs to a node.
type relation func(a *Authorizer, node, namespace, name string) bool

// podsOf yields the pods that grant their node something: all that are bound to it.
func (a *Authorizer) podsOf(node string) []*corev1.Pod { return a.pods.ByIndex("spec.nodeName", node) }

// isMirror tells whether a pod was written by a kubelet, which may not gain access by what it writes.
func isMirror(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror
}

// byPod relates an object to the nodes of the pods that use it.
func byPod(uses func(pod *corev1.Pod, name string) bool) relation {
	return func(a *Authorizer, node, namespace, name string) bool {
		for _, pod := range a.podsOf(node) {
			if pod.Namespace == namespace && !isMirror(pod) && uses(pod, name) {
				return true
			}
		}
		return false
	}
}

var (
	configMapOf      = byPod(func(pod *corev1.Pod, name string) bool { return has(ConfigMaps(pod), name) })
	claimOf          = byPod(func(pod *corev1.Pod, name string) bool { return has(Claims(pod), name) })
	resourceClaimOf  = byPod(func(pod *corev1.Pod, name string) bool { return has(ResourceClaims(pod), name) })
	serviceAccountOf = byPod(func(pod *corev1.Pod, name string) bool { return pod.Spec.ServiceAccountName == name })
	podSecretOf      = byPod(func(pod *corev1.Pod, name string) bool { return has(Secrets(pod), name) })
)

func podOf(a *Authorizer, node, namespace, name string) bool {
	pod, ok := a.pods.Get(namespace, name)
	return ok && pod.Spec.NodeName == node
}

// volumeOf relates a volume to the nodes of the pods that use its claim.
func volumeOf(a *Authorizer, node, _, name string) bool {
	pv, ok := a.volumes.Get("", name)
	return ok && pv.Spec.ClaimRef != nil && claimOf(a, node, pv.Spec.ClaimRef.Namespace, pv.Spec.ClaimRef.Name)
}

// secretOf relates a Secret to the nodes of the pods that use it, or that use a volume that does.
func secretOf(a *Authorizer, node, namespace, name string) bool {
	if podSecretOf(a, node, namespace, name) {
		return true
	}
	for _, pod := range a.podsOf(node) {
		if isMirror(pod) {
			continue
		}
		for claim := range Claims(pod) {
			if a.claimNeeds(pod.Namespace, claim, namespace, name) {
				return true
			}
		}
	}
	return false
}

// claimNeeds tells whether the volume of a claim uses a Secret.
func (a *Authorizer) claimNeeds(claimNamespace, claim, namespace, secret string) bool {
	pvc, ok := a.claims.Get(claimNamespace, claim)
	if !ok || pvc.Spec.VolumeName == "" {
		return false
	}
	pv, ok := a.volumes.Get("", pvc.Spec.VolumeName)
	if !ok || pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.Namespace != claimNamespace || pv.Spec.ClaimRef.Name != claim {
		return false
	}
	for _, key := range volumeSecretKeys(pv) {
		if key.Namespace == namespace && key.Name == secret {
			return true
		}
	}
	return false
}

func attachmentOf(a *Authorizer, node, _, name string) bool {
	va, ok := a.attachments.Get("", name)
	return ok && va.Spec.NodeName == node
}

func sliceOf(a *Authorizer, node, _, name string) bool {
	s, ok := a.slices.Get("", name)
	return ok && s.Spec.NodeName != nil && *s.Spec.NodeName == node
}
