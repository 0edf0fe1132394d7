package core

import (
	"maps"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// defaultPod completes a pod and brings fields that are spelled twice into agreement.
func defaultPod(pod *corev1.Pod) {
	defaultRequestsFromLimits(pod.Spec.Containers)
	defaultRequestsFromLimits(pod.Spec.InitContainers)
	defaultHugePageLimits(pod)
	defaultPodRequests(pod)
	set(&pod.Spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	if pod.Spec.HostNetwork {
		defaultHostPorts(pod.Spec.Containers)
		defaultHostPorts(pod.Spec.InitContainers)
	}
	DefaultPodSpec(&pod.Spec)
	defaultPodStatus(&pod.Status)
	pod.Annotations = dropInitContainerAnnotations(pod.Annotations)
	if *pod.Spec.TerminationGracePeriodSeconds < 0 {
		pod.Spec.TerminationGracePeriodSeconds = new(int64(1))
	}
}

// set fills in an absent optional value.
func set[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

// setString fills in an empty string.
func setString[T ~string](p *T, value T) {
	if *p == "" {
		*p = value
	}
}

// setInt fills in a zero.
func setInt(p *int32, value int32) {
	if *p == 0 {
		*p = value
	}
}

func defaultRequestsFromLimits(containers []corev1.Container) {
	for i := range containers {
		r := &containers[i].Resources
		if r.Limits == nil {
			continue
		}
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		for name, quantity := range r.Limits {
			if _, there := r.Requests[name]; !there {
				r.Requests[name] = quantity.DeepCopy()
			}
		}
	}
}

// defaultHugePageLimits gives a pod with resources of its own the huge pages that its containers' limits sum up to.
func defaultHugePageLimits(pod *corev1.Pod) {
	own := pod.Spec.Resources
	if own == nil || len(own.Limits)+len(own.Requests) == 0 {
		return
	}
	for name, sum := range resourcehelper.AggregateContainerLimits(pod, resourcehelper.PodResourcesOptions{}) {
		if !resourcehelper.IsSupportedPodLevelResource(name) || !isHugePage(name) {
			continue
		}
		if _, requested := own.Requests[name]; requested {
			continue
		}
		if _, limited := own.Limits[name]; limited {
			continue
		}
		if own.Limits == nil {
			own.Limits = corev1.ResourceList{}
		}
		own.Limits[name] = sum.DeepCopy()
	}
}

// defaultPodRequests gives a pod with limits of its own the requests that its containers sum up to, else those limits.
func defaultPodRequests(pod *corev1.Pod) {
	own := pod.Spec.Resources
	if own == nil || len(own.Limits) == 0 {
		return
	}
	requests := maps.Clone(own.Requests)
	if requests == nil {
		requests = corev1.ResourceList{}
	}
	for name, sum := range resourcehelper.AggregateContainerRequests(pod, resourcehelper.PodResourcesOptions{}) {
		if _, there := requests[name]; !there && resourcehelper.IsSupportedPodLevelResource(name) && isOvercommitAllowed(name) {
			requests[name] = sum.DeepCopy()
		}
	}
	for name, limit := range own.Limits {
		if _, there := requests[name]; !there && resourcehelper.IsSupportedPodLevelResource(name) {
			requests[name] = limit.DeepCopy()
		}
	}
	if len(requests) > 0 {
		own.Requests = requests
	}
}

func defaultHostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			p := &containers[i].Ports[j]
			setInt(&p.HostPort, p.ContainerPort)
		}
	}
}

// DefaultPodTemplate completes the template of a workload.
func DefaultPodTemplate(t *corev1.PodTemplateSpec) {
	DefaultPodSpec(&t.Spec)
	t.Annotations = dropInitContainerAnnotations(t.Annotations)
}

// DefaultPodSpec completes what pods and templates have in common.
func DefaultPodSpec(spec *corev1.PodSpec) {
	setString(&spec.DNSPolicy, corev1.DNSClusterFirst)
	setString(&spec.RestartPolicy, corev1.RestartPolicyAlways)
	set(&spec.SecurityContext, corev1.PodSecurityContext{})
	set(&spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	setString(&spec.SchedulerName, corev1.DefaultSchedulerName)
	setString(&spec.ServiceAccountName, spec.DeprecatedServiceAccount)
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
	for i := range spec.Volumes {
		defaultVolume(&spec.Volumes[i])
	}
	for _, c := range allContainers(spec) {
		defaultContainer(c)
	}
	roundUp(spec.Overhead)
	if spec.Resources != nil {
		roundUp(spec.Resources.Limits)
		roundUp(spec.Resources.Requests)
	}
}

// roundUp removes what is finer than a thousandth, the finest that quantities of resources have.
func roundUp(list corev1.ResourceList) {
	for name, quantity := range list {
		if !quantity.RoundUp(resource.Milli) {
			list[name] = quantity
		}
	}
}

// taggedLatest tells whether an image reference names the tag "latest", by itself or by naming neither tag nor digest.
func taggedLatest(image string) bool {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return false
	}
	if tagged, ok := named.(reference.Tagged); ok {
		return tagged.Tag() == "latest"
	}
	_, pinned := named.(reference.Digested)
	return !pinned
}

func defaultPullPolicy(policy *corev1.PullPolicy, image string) {
	switch {
	case *policy != "":
	case taggedLatest(image):
		*policy = corev1.PullAlways
	default:
		*policy = corev1.PullIfNotPresent
	}
}

func defaultContainer(c *corev1.Container) {
	defaultPullPolicy(&c.ImagePullPolicy, c.Image)
	setString(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	setString(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		setString(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		if from == nil {
			continue
		}
		defaultFieldSelector(from.FieldRef)
		if from.FileKeyRef != nil {
			set(&from.FileKeyRef.Optional, false)
		}
	}
	roundUp(c.Resources.Limits)
	roundUp(c.Resources.Requests)
	defaultProbe(c.LivenessProbe)
	defaultProbe(c.ReadinessProbe)
	defaultProbe(c.StartupProbe)
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTPGet(h.HTTPGet)
			}
		}
	}
}

func defaultFieldSelector(s *corev1.ObjectFieldSelector) {
	if s != nil {
		setString(&s.APIVersion, "v1")
	}
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	setInt(&p.TimeoutSeconds, 1)
	setInt(&p.PeriodSeconds, 10)
	setInt(&p.SuccessThreshold, 1)
	setInt(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil {
		set(&p.GRPC.Service, "")
	}
}

func defaultHTTPGet(a *corev1.HTTPGetAction) {
	if a != nil {
		setString(&a.Path, "/")
		setString(&a.Scheme, corev1.URISchemeHTTP)
	}
}

// defaultPodStatus makes podIP the first of podIPs. Where they disagree, the single one rules: its writer does not know the other.
func defaultPodStatus(s *corev1.PodStatus) {
	if s.PodIP != "" && (len(s.PodIPs) == 0 || s.PodIPs[0].IP != s.PodIP) {
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	}
	if len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			roundUp(list[i].AllocatedResources)
			if list[i].Resources != nil {
				roundUp(list[i].Resources.Limits)
				roundUp(list[i].Resources.Requests)
			}
		}
	}
	roundUp(s.AllocatedResources)
	if s.Resources != nil {
		roundUp(s.Resources.Limits)
		roundUp(s.Resources.Requests)
	}
}

// dropInitContainerAnnotations removes the annotations in which init containers were kept before they had a field.
func dropInitContainerAnnotations(annotations map[string]string) map[string]string {
	stale := func(key, _ string) bool {
		rest, ok := strings.CutPrefix(key, "pod.beta.kubernetes.io/")
		if !ok {
			rest, ok = strings.CutPrefix(key, "pod.alpha.kubernetes.io/")
		}
		return ok && (rest == "init-containers" || rest == "init-container-statuses")
	}
	for key := range annotations {
		if stale(key, "") {
			kept := maps.Clone(annotations)
			maps.DeleteFunc(kept, stale)
			return kept
		}
	}
	return annotations
}
