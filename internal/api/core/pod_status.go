package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"clipper.dev/clipper/internal/api/check"
)

// preparePodStatus keeps the spec, and what an older client's status does not know.
func preparePodStatus(pod, old *corev1.Pod) {
	pod.Spec = old.Spec
	pod.DeletionTimestamp = nil
	pod.OwnerReferences = old.OwnerReferences
	setString(&pod.Status.QOSClass, old.Status.QOSClass)
	if pod.Status.ObservedGeneration == 0 {
		pod.Status.ObservedGeneration = old.Status.ObservedGeneration
	}
	seen := map[corev1.PodConditionType][]int64{}
	for _, c := range old.Status.Conditions {
		seen[c.Type] = append(seen[c.Type], c.ObservedGeneration)
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if before := seen[c.Type]; len(before) > 0 {
			if c.ObservedGeneration == 0 {
				c.ObservedGeneration = before[0]
			}
			seen[c.Type] = before[1:]
		}
	}
	dropDisabledStatusFields(&pod.Status, &old.Status)
}

// dropDisabledStatusFields removes what the gates ImageVolumeWithDigest and DRANodeAllocatableResources would allow.
func dropDisabledStatusFields(s, old *corev1.PodStatus) {
	if len(old.NodeAllocatableResourceClaimStatuses) == 0 {
		s.NodeAllocatableResourceClaimStatuses = nil
	}
	if mountStatuses(old, func(m *corev1.VolumeMountStatus) bool { return m.VolumeStatus != nil }) {
		return
	}
	mountStatuses(s, func(m *corev1.VolumeMountStatus) bool { m.VolumeStatus = nil; return false })
}

func mountStatuses(s *corev1.PodStatus, visit func(*corev1.VolumeMountStatus) bool) bool {
	for _, list := range statusLists(s) {
		for i := range list.of {
			for j := range list.of[i].VolumeMounts {
				if visit(&list.of[i].VolumeMounts[j]) {
					return true
				}
			}
		}
	}
	return false
}

type statusList struct {
	name string
	of   []corev1.ContainerStatus
}

func statusLists(s *corev1.PodStatus) []statusList {
	return []statusList{
		{"containerStatuses", s.ContainerStatuses}, {"initContainerStatuses", s.InitContainerStatuses}, {"ephemeralContainerStatuses", s.EphemeralContainerStatuses},
	}
}

func validatePodStatus(pod, old *corev1.Pod) (e check.Errors) {
	status := field.NewPath("status")
	e.Add(validateAnnotationUpdate(pod, old, podOptionsFor(true, &old.Spec, &old.ObjectMeta))...)
	e.Add(validatePodConditions(pod.Status.Conditions, status.Child("conditions"))...)
	nominated := status.Child("nominatedNodeName")
	if now := pod.Status.NominatedNodeName; now != old.Status.NominatedNodeName && now != "" {
		e.Messages(nominated, now, apivalidation.NameIsDNSSubdomain(now, false))
		if old.Spec.NodeName != "" {
			e.Forbidden(nominated, "may not be set on pods that are already bound to a node")
		}
	}
	if pod.Status.ObservedGeneration < 0 {
		e.Invalid(status.Child("observedGeneration"), pod.Status.ObservedGeneration, "must be a non-negative integer")
	}
	e.Unchanged(status.Child("qosClass"), pod.Status.QOSClass, old.Status.QOSClass)
	e.Add(validateTransitions(pod, old, status)...)
	e.Add(validateClaimStatuses(pod, status.Child("resourceClaimStatuses"))...)
	e.Add(validateExtendedClaim(pod, status.Child("extendedResourceClaimStatus"))...)
	e.Add(validatePodIPs(pod, old, status)...)
	for _, list := range statusLists(&pod.Status) {
		e.Add(validateStatusUsers(list.of, pod.Spec.OS, status.Child(list.name))...)
	}
	e.Add(validateAllocated(pod.Status.ContainerStatuses, pod.Spec.Containers, status.Child("containerStatuses"))...)
	e.Add(validateAllocated(pod.Status.InitContainerStatuses, pod.Spec.InitContainers, status.Child("initContainerStatuses"))...)
	for i, s := range pod.Status.EphemeralContainerStatuses {
		if len(s.AllocatedResourcesStatus) > 0 {
			e.Forbidden(status.Child("ephemeralContainerStatuses").Index(i).Child("allocatedResourcesStatus"), "must not be specified in container status")
		}
	}
	return e
}

func validatePodConditions(conditions []corev1.PodCondition, path *field.Path) (e check.Errors) {
	for i, c := range conditions {
		if c.ObservedGeneration < 0 {
			e.Invalid(path.Index(i).Child("observedGeneration"), c.ObservedGeneration, "must be a non-negative integer")
		}
		switch c.Type {
		case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized:
		default:
			e.Qualified(path.Index(i).Child("Type"), string(c.Type))
		}
	}
	return e
}

// validateTransitions refuses that a container which has ended for good runs again.
func validateTransitions(pod, old *corev1.Pod, path *field.Path) (e check.Errors) {
	ended := func(list string, now, before []corev1.ContainerStatus, mayRestart func(name string, exit int32) bool) {
		for i, b := range before {
			if b.State.Terminated == nil {
				continue
			}
			for _, n := range now {
				if n.Name != b.Name || n.State.Terminated != nil {
					continue
				}
				if !mayRestart(b.Name, b.State.Terminated.ExitCode) {
					e.Forbidden(path.Child(list).Index(i).Child("state"), "may not be transitioned to non-terminated state")
				}
			}
		}
	}
	restarts := func(containers []corev1.Container) func(string, int32) bool {
		return func(name string, exit int32) bool {
			i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == name })
			return i >= 0 && shouldRestart(&containers[i], old.Spec.RestartPolicy, exit)
		}
	}
	if !anyRestartsAll(&old.Spec) {
		ended("containerStatuses", pod.Status.ContainerStatuses, old.Status.ContainerStatuses, restarts(old.Spec.Containers))
		ended("initContainerStatuses", pod.Status.InitContainerStatuses, old.Status.InitContainerStatuses, restarts(old.Spec.InitContainers))
	}
	ended("ephemeralContainerStatuses", pod.Status.EphemeralContainerStatuses, old.Status.EphemeralContainerStatuses, func(string, int32) bool { return false })
	return e
}

func anyRestartsAll(spec *corev1.PodSpec) bool {
	for place, c := range allContainers(spec) {
		for _, r := range c.RestartPolicyRules {
			if place.list != "ephemeralContainers" && r.Action == corev1.ContainerRestartRuleActionRestartAllContainers {
				return true
			}
		}
	}
	return false
}

// shouldRestart asks the container's rules, then its policy, then the pod's.
func shouldRestart(c *corev1.Container, pod corev1.RestartPolicy, exit int32) bool {
	policy := string(pod)
	if c.RestartPolicy != nil {
		for _, r := range c.RestartPolicyRules {
			if r.ExitCodes == nil {
				continue
			}
			in := slices.Contains(r.ExitCodes.Values, exit)
			matches := r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn && in ||
				r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpNotIn && !in
			if !matches {
				continue
			}
			if r.Action == corev1.ContainerRestartRuleActionRestart || r.Action == corev1.ContainerRestartRuleActionRestartAllContainers {
				return true
			}
			break
		}
		policy = string(*c.RestartPolicy)
	}
	switch policy {
	case string(corev1.RestartPolicyOnFailure):
		return exit != 0
	case string(corev1.RestartPolicyNever):
		return false
	}
	return true
}

func validateClaimStatuses(pod *corev1.Pod, path *field.Path) (e check.Errors) {
	seen := map[string]bool{}
	for i, s := range pod.Status.ResourceClaimStatuses {
		at := path.Index(i)
		if !slices.ContainsFunc(pod.Spec.ResourceClaims, func(c corev1.PodResourceClaim) bool { return c.Name == s.Name }) {
			e.Invalid(at.Child("name"), s.Name, "must match the name of an entry in `spec.resourceClaims`")
		}
		if seen[s.Name] {
			e.Duplicate(at.Child("name"), s.Name)
		}
		seen[s.Name] = true
		if n := s.ResourceClaimName; n != nil {
			e.Messages(at.Child("resourceClaimName"), n, apivalidation.NameIsDNSSubdomain(*n, false))
		}
	}
	return e
}

func validateExtendedClaim(pod *corev1.Pod, path *field.Path) (e check.Errors) {
	s := pod.Status.ExtendedResourceClaimStatus
	if s == nil {
		return nil
	}
	mappings := path.Child("requestMappings")
	if len(s.RequestMappings) == 0 {
		e.Required(mappings, "at least one request mapping is required")
	}
	seen := map[corev1.ContainerExtendedResourceRequest]bool{}
	for i, m := range s.RequestMappings {
		at := mappings.Index(i)
		if c := containerNamed(&pod.Spec, m.ContainerName); c == nil {
			e.Invalid(at.Child("containerName"), m.ContainerName, "must match the name of an entry in spec.initContainers.name or spec.containers.name")
		} else if _, there := c.Resources.Requests[corev1.ResourceName(m.ResourceName)]; !there {
			e.Invalid(at.Child("resourceName"), m.ResourceName, "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests")
		}
		e.Label(path.Child("requestName"), m.RequestName)
		if seen[m] {
			e.Duplicate(at.Child("containerName"), m.ContainerName)
			e.Duplicate(at.Child("resourceName"), m.ResourceName)
			e.Duplicate(at.Child("requestName"), m.RequestName)
		}
		seen[m] = true
	}
	if s.ResourceClaimName == "" {
		e.Required(path.Child("resourceClaimName"), "")
	} else {
		e.Messages(path.Child("resourceClaimName"), s.ResourceClaimName, apivalidation.NameIsDNSSubdomain(s.ResourceClaimName, false))
	}
	return e
}

// containerNamed prefers containers to init containers of the same name.
func containerNamed(spec *corev1.PodSpec, name string) (found *corev1.Container) {
	for place, c := range allContainers(spec) {
		if c.Name == name && place.list != "ephemeralContainers" {
			found = c
		}
	}
	return found
}

func validatePodIPs(pod, old *corev1.Pod, path *field.Path) (e check.Errors) {
	now, before := make([]string, 0, 2), make([]string, 0, 2)
	for _, ip := range pod.Status.PodIPs {
		now = append(now, ip.IP)
	}
	for _, ip := range old.Status.PodIPs {
		before = append(before, ip.IP)
	}
	e.Add(validateIPPair(now, before, pod.Status.PodIPs, path.Child("podIPs"))...)
	if len(pod.Status.HostIPs) == 0 {
		return e
	}
	hosts := path.Child("hostIPs")
	if first := pod.Status.HostIPs[0].IP; first != pod.Status.HostIP {
		e.Invalid(hosts.Index(0).Child("ip"), first, "must be equal to `hostIP`")
	}
	now, before = now[:0], before[:0]
	for _, ip := range pod.Status.HostIPs {
		now = append(now, ip.IP)
	}
	for _, ip := range old.Status.HostIPs {
		before = append(before, ip.IP)
	}
	e.Add(validateIPPair(now, before, pod.Status.HostIPs, hosts)...)
	return e
}

func validateIPPair(ips, old []string, value any, path *field.Path) (e check.Errors) {
	before := sets.New(old...)
	for i, ip := range ips {
		e.IP(path.Index(i), ip, before)
	}
	if len(ips) < 2 {
		return e
	}
	dual, err := netutils.IsDualStackIPStrings(ips)
	if err != nil {
		e.Internal(path, fmt.Errorf("failed to check for dual stack with error:%w", err))
	}
	if !dual || len(ips) > 2 {
		e.Invalid(path, value, "may specify no more than one IP for each IP family")
	}
	return e
}

func validateStatusUsers(list []corev1.ContainerStatus, os *corev1.PodOS, path *field.Path) (e check.Errors) {
	windows := os != nil && os.Name == corev1.Windows
	for i, s := range list {
		if s.User == nil || s.User.Linux == nil {
			continue
		}
		at, user := path.Index(i).Child("user", "linux"), s.User.Linux
		if windows {
			e.Forbidden(at, "cannot be set for a windows pod")
			continue
		}
		validateUser(&e, &user.UID, at.Child("uid"))
		validateGroup(&e, &user.GID, at.Child("gid"))
		for j := range user.SupplementalGroups {
			validateGroup(&e, &user.SupplementalGroups[j], at.Child("supplementalGroups").Index(j))
		}
	}
	return e
}

// validateAllocated checks the health of the devices that containers have.
func validateAllocated(list []corev1.ContainerStatus, containers []corev1.Container, path *field.Path) (e check.Errors) {
	for i, s := range list {
		for j, a := range s.AllocatedResourcesStatus {
			at := path.Index(i).Child("allocatedResourcesStatus").Index(j)
			if k := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == s.Name }); k >= 0 {
				if why := notAllocated(&containers[k].Resources, a.Name); why != "" {
					e.Invalid(at.Child("name"), a.Name, why)
				}
			}
			e.Add(validateHealths(a.Resources, at.Child("resources"))...)
		}
	}
	return e
}

func notAllocated(r *corev1.ResourceRequirements, name corev1.ResourceName) string {
	claim, isClaim := strings.CutPrefix(string(name), "claim:")
	if !isClaim {
		if _, there := r.Requests[name]; there {
			return ""
		}
		return "must match one of the container's resource requests"
	}
	for _, c := range r.Claims {
		if c.Request == "" && c.Name == claim || c.Request != "" && c.Name+"/"+c.Request == claim {
			return ""
		}
	}
	return "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"
}

func validateHealths(list []corev1.ResourceHealth, path *field.Path) (e check.Errors) {
	seen := map[corev1.ResourceID]bool{}
	for i, r := range list {
		at := path.Index(i)
		check.OneOf(&e, at.Child("health"), r.Health, corev1.ResourceHealthStatusHealthy, corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown)
		if m := r.Message; m != nil {
			if *m == "" {
				e.Required(at.Child("message"), "must be non-empty if specified")
			} else if len(*m) > corev1.ResourceHealthMessageMaxLength {
				e.TooLong(at.Child("message"), corev1.ResourceHealthMessageMaxLength)
			}
		}
		if seen[r.ResourceID] {
			e.Duplicate(at.Child("resourceID"), r.ResourceID)
		}
		seen[r.ResourceID] = true
	}
	return e
}
