package criconfig

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// PodReference names a pod in events.
func PodReference(pod *corev1.Pod) *corev1.ObjectReference {
	ref := &corev1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
	return ref
}

// ContainerReference names a container of a pod in events.
func ContainerReference(pod *corev1.Pod, name string) *corev1.ObjectReference {
	ref := PodReference(pod)
	if r, ok := lifecycle.Find(pod, name); ok {
		list := [...]string{lifecycle.Regular: "containers", lifecycle.Init: "initContainers", lifecycle.Ephemeral: "ephemeralContainers"}[r.Class]
		ref.FieldPath = fmt.Sprintf("spec.%s{%s}", list, name)
	}
	return ref
}
