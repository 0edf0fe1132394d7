package core

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// keepAllButResources lets an update of the resize subresource change resources and resize policies alone. Where containers do not
// correspond, everything stays as the client sent it, for the validation to refuse.
func keepAllButResources(pod, old *corev1.Pod) {
	if len(pod.Spec.Containers) == len(old.Spec.Containers) && len(pod.Spec.InitContainers) == len(old.Spec.InitContainers) {
		spec := *old.Spec.DeepCopy()
		spec.Resources = pod.Spec.Resources
		spec.Containers = withResources(spec.Containers, pod.Spec.Containers)
		spec.InitContainers = withResources(spec.InitContainers, pod.Spec.InitContainers)
		pod.Spec, pod.Status = spec, old.Status
		keepMeta(pod, old)
	}
	dropDisabledFields(&pod.Spec, &old.Spec)
}

func withResources(old, now []corev1.Container) []corev1.Container {
	for i := range now {
		if now[i].Name != old[i].Name {
			return now
		}
	}
	for i := range now {
		old[i].Resources, old[i].ResizePolicy = now[i].Resources, now[i].ResizePolicy
	}
	return old
}

func validateResize(pod, old *corev1.Pod) (e check.Errors) {
	refuse := func(detail string) check.Errors { return check.Errors{field.Forbidden(field.NewPath(""), detail)} }
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return refuse("static pods cannot be resized")
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return refuse("windows pods cannot be resized")
	}
	spec := field.NewPath("spec")
	e.Add(validatePodMain(pod, podOptionsFor(true, &old.Spec, &old.ObjectMeta))...)
	class := old.Status.QOSClass
	if class == "" {
		class = ComputeQOS(&old.Spec)
	}
	if class != ComputeQOS(&pod.Spec) {
		e.Invalid(spec, pod.Status.QOSClass, "Pod QOS Class may not change as a result of resizing")
	}
	if !canResize(old) {
		e.Forbidden(spec, "Pod running on node without support for resize")
	}
	rest := pod.Spec.DeepCopy()
	if hasOwnResources(old) || hasOwnResources(pod) {
		e.Add(validateOwnResize(pod, old, rest, spec)...)
	}
	if len(old.Status.NodeAllocatableResourceClaimStatuses) > 0 {
		e.Forbidden(spec, "pods with node allocatable resource claims cannot be resized")
	}
	if order := validateSameContainers(pod, old, spec); len(order) > 0 {
		e.Add(order...)
		return e
	}
	e.Add(validateContainersResize(pod, old, rest, spec)...)
	if len(e) == 0 && !equality.Semantic.DeepEqual(*rest, old.Spec) {
		e.Forbidden(spec, "only cpu and memory resources are mutable")
	}
	return e
}

func hasOwnResources(pod *corev1.Pod) bool {
	r := pod.Spec.Resources
	return r != nil && len(r.Requests)+len(r.Limits) > 0
}

// canResize asks the first running container whether its node reports resources, which those without support for resizing don't.
func canResize(pod *corev1.Pod) bool {
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Running != nil {
			return s.Resources != nil
		}
	}
	return true
}

func validateSameContainers(pod, old *corev1.Pod, path *field.Path) (e check.Errors) {
	same := func(name string, now, before []corev1.Container) {
		at := path.Child(name)
		if len(now) != len(before) {
			e.Forbidden(at, name+" may not be added or removed on resize")
			return
		}
		for i := range before {
			if now[i].Name != before[i].Name {
				e.Forbidden(at.Index(i).Child("name"), name+" may not be renamed or reordered on resize")
			}
		}
	}
	same("containers", pod.Spec.Containers, old.Spec.Containers)
	same("initContainers", pod.Spec.InitContainers, old.Spec.InitContainers)
	return e
}

// validateOwnResize checks the resources of the pod as a whole, and puts back in rest what may change.
func validateOwnResize(pod, old *corev1.Pod, rest *corev1.PodSpec, path *field.Path) (e check.Errors) {
	at := path.Child("resources")
	if old.Spec.Resources != nil {
		if pod.Spec.Resources == nil {
			e.Forbidden(at, "pod-level resources cannot be removed")
			return e
		}
		if removed(pod.Spec.Resources.Requests, old.Spec.Resources.Requests) {
			e.Forbidden(at.Child("requests"), "pod-level resource requests cannot be removed")
		}
		if removed(pod.Spec.Resources.Limits, old.Spec.Resources.Limits) {
			e.Forbidden(at.Child("limits"), "pod-level resource limits cannot be removed")
		}
	}
	if r := rest.Resources; r != nil {
		var before corev1.ResourceRequirements
		if old.Spec.Resources != nil {
			before = *old.Spec.Resources
		}
		r.Requests = withOldCompute(r.Requests, before.Requests)
		r.Limits = withOldCompute(r.Limits, before.Limits)
		if old.Spec.Resources == nil && len(r.Requests)+len(r.Limits)+len(r.Claims) == 0 {
			rest.Resources = nil
		}
	}
	if !equality.Semantic.DeepEqual(rest.Resources, old.Spec.Resources) {
		e.Forbidden(path, "only cpu and memory resources are mutable at pod-level")
	}
	return e
}

func validateContainersResize(pod, old *corev1.Pod, rest *corev1.PodSpec, path *field.Path) (e check.Errors) {
	kept := func(list string, i int, now, before corev1.ResourceRequirements) {
		at := path.Child(list).Index(i).Child("resources")
		if removed(now.Requests, before.Requests) {
			e.Forbidden(at.Child("requests"), "resource requests cannot be removed")
		}
		if removed(now.Limits, before.Limits) {
			e.Forbidden(at.Child("limits"), "resource limits cannot be removed")
		}
	}
	for i := range old.Spec.InitContainers {
		kept("initContainers", i, pod.Spec.InitContainers[i].Resources, old.Spec.InitContainers[i].Resources)
	}
	for i := range old.Spec.Containers {
		kept("containers", i, pod.Spec.Containers[i].Resources, old.Spec.Containers[i].Resources)
	}
	for i := range rest.Containers {
		restoreCompute(&rest.Containers[i], &old.Spec.Containers[i])
		if !equality.Semantic.DeepEqual(rest.Containers[i], old.Spec.Containers[i]) {
			e.Forbidden(path, "only cpu and memory resources are mutable")
		}
	}
	for i := range rest.InitContainers {
		c, before, at := &rest.InitContainers[i], &old.Spec.InitContainers[i], path.Child("initContainers").Index(i)
		changed := !equality.Semantic.DeepEqual(*c, *before)
		restoreCompute(c, before)
		if !equality.Semantic.DeepEqual(*c, *before) {
			e.Forbidden(at, "only cpu and memory resources for init or sidecar containers are mutable")
		}
		if !changed || isSidecar(c) {
			continue
		}
		for _, p := range c.ResizePolicy {
			if p.RestartPolicy == corev1.RestartContainer {
				e.Forbidden(at, "non-sidecar init containers with a resize policy of RestartContainer cannot be resized")
			}
		}
	}
	return e
}

// restoreCompute puts back CPU and memory, and drops claims, which nothing may change.
func restoreCompute(c, old *corev1.Container) {
	c.Resources = corev1.ResourceRequirements{
		Limits:   withOldCompute(c.Resources.Limits, old.Resources.Limits),
		Requests: withOldCompute(c.Resources.Requests, old.Resources.Requests),
	}
}

func withOldCompute(now, before corev1.ResourceList) corev1.ResourceList {
	if now == nil && before == nil {
		return nil
	}
	mixed := maps.Clone(now)
	if mixed == nil {
		mixed = corev1.ResourceList{}
	}
	for _, name := range computeResources {
		delete(mixed, name)
		if q, there := before[name]; there {
			mixed[name] = q
		}
	}
	return mixed
}

func removed(now, before corev1.ResourceList) bool {
	for name := range before {
		if _, there := now[name]; !there {
			return true
		}
	}
	return false
}
