package topology

import (
	"iter"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
)

// Containers yields a pod's init containers and then its regular ones.
func Containers(pod *corev1.Pod) iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for i := range pod.Spec.InitContainers {
			if !yield(&pod.Spec.InitContainers[i]) {
				return
			}
		}
		for i := range pod.Spec.Containers {
			if !yield(&pod.Spec.Containers[i]) {
				return
			}
		}
	}
}

// EndsFirst tells whether a container is an init container that ends before the regular ones start, so that they may have what it had.
func EndsFirst(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == name {
			return !lifecycle.IsSidecar(c)
		}
	}
	return false
}

// Peak returns the most that a pod's containers ask for at one time: sidecars go on beside the init containers after them and beside the regular ones.
func Peak[T int | uint64](pod *corev1.Pod, of func(*corev1.Container) T) T {
	var sidecars, init, regular T
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if lifecycle.IsSidecar(c) {
			sidecars += of(c)
		} else {
			init = max(init, sidecars+of(c))
		}
	}
	for i := range pod.Spec.Containers {
		regular += of(&pod.Spec.Containers[i])
	}
	return max(init, sidecars+regular)
}

// PodLevel tells whether a pod asks for resources as a whole. CPUs and memory of such a pod aren't pinned.
func PodLevel(pod *corev1.Pod) bool {
	r := pod.Spec.Resources
	return r != nil && len(r.Requests)+len(r.Limits) > 0
}
