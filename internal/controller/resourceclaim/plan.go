package resourceclaim

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/controller"
)

// mostBaseBytes leaves five random characters and a hyphen of a name's 63.
const mostBaseBytes = 57

// generate returns the claim that a pod asks for by a template.
func generate(pod *corev1.Pod, name string, template *resourcev1.ResourceClaimTemplate) *resourcev1.ResourceClaim {
	annotations := maps.Clone(template.Spec.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[resourcev1.PodResourceClaimAnnotation] = name
	return &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: baseName(pod.Name, name), Namespace: pod.Namespace,
			Labels: maps.Clone(template.Spec.Labels), Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: new(true)}},
		},
		Spec: *template.Spec.Spec.DeepCopy(),
	}
}

// baseName is what a generated name begins with. Long names are both cut, in proportion, so that something of each is left.
func baseName(pod, claim string) string {
	base := pod + "-" + claim + "-"
	if n := len(base); n > mostBaseBytes {
		return pod[:len(pod)*mostBaseBytes/n] + "-" + claim[:len(claim)*mostBaseBytes/n]
	}
	return base
}

// done tells whether a pod no longer needs its claims.
func done(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed ||
		pod.DeletionTimestamp != nil && pod.Spec.NodeName == ""
}

// owner returns the pod that a claim was generated for.
func owner(claim *resourcev1.ResourceClaim) (name string, uid types.UID) {
	ref := controller.ControllerRef(claim.OwnerReferences)
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" {
		return "", ""
	}
	return ref.Name, ref.UID
}

// administers tells whether a claim asks for devices that others use already.
func administers(claim *resourcev1.ResourceClaim) bool {
	for _, request := range claim.Spec.Devices.Requests {
		if e := request.Exactly; e != nil && e.AdminAccess != nil && *e.AdminAccess {
			return true
		}
	}
	return false
}
