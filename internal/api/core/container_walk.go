package core

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// allContainers yields init containers, containers and ephemeral containers with their place.
func allContainers(spec *corev1.PodSpec) iter.Seq2[containerPlace, *corev1.Container] {
	return func(yield func(containerPlace, *corev1.Container) bool) {
		for i := range spec.InitContainers {
			if !yield(containerPlace{"initContainers", i}, &spec.InitContainers[i]) {
				return
			}
		}
		for i := range spec.Containers {
			if !yield(containerPlace{"containers", i}, &spec.Containers[i]) {
				return
			}
		}
		for i := range spec.EphemeralContainers {
			if !yield(containerPlace{"ephemeralContainers", i}, asContainer(&spec.EphemeralContainers[i])) {
				return
			}
		}
	}
}

// containerPlace tells where in the spec a container stands.
type containerPlace struct {
	list  string
	index int
}

func (p containerPlace) path(spec *field.Path) *field.Path { return spec.Child(p.list).Index(p.index) }

// asContainer shows an ephemeral container, which has the same fields, as a container.
func asContainer(c *corev1.EphemeralContainer) *corev1.Container {
	return (*corev1.Container)(&c.EphemeralContainerCommon)
}

// isSidecar tells whether an init container keeps running beside the others.
func isSidecar(c *corev1.Container) bool {
	return c != nil && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
