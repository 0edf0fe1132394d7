package dra

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// Devices returns the devices of a container's claims, by the names that the runtime finds in its CDI specifications.
func (m *Manager) Devices(pod *corev1.Pod, c *corev1.Container) ([]*runtimeapi.CDIDevice, error) {
	if !Uses(pod) {
		return nil, nil
	}
	requests, err := requestsOf(pod, c)
	if err != nil {
		return nil, err
	}
	var out []*runtimeapi.CDIDevice
	named := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		known := m.visit(pod.Namespace, name, func(claim *Claim) {
			for _, id := range claim.cdi(requests[name]) {
				if !named[id] {
					named[id] = true
					out = append(out, &runtimeapi.CDIDevice{Name: id})
				}
			}
		})
		if !known {
			return nil, fmt.Errorf("internal error: unable to get claim info for ResourceClaim %s in namespace %s", name, pod.Namespace)
		}
	}
	return out, nil
}

// requestsOf returns which requests of which claims a container uses; "" is all of a claim.
func requestsOf(pod *corev1.Pod, c *corev1.Container) (map[string][]string, error) {
	out := map[string][]string{}
	for _, used := range c.Resources.Claims {
		i := slices.IndexFunc(pod.Spec.ResourceClaims, func(p corev1.PodResourceClaim) bool { return p.Name == used.Name })
		if i < 0 {
			continue
		}
		name, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil {
			return nil, err
		}
		if name != nil {
			out[*name] = append(out[*name], used.Request)
		}
	}
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
		for _, mapping := range s.RequestMappings {
			if amount, asked := c.Resources.Requests[corev1.ResourceName(mapping.ResourceName)]; mapping.ContainerName == c.Name && asked && !amount.IsZero() {
				out[s.ResourceClaimName] = append(out[s.ResourceClaimName], mapping.RequestName)
			}
		}
	}
	return out, nil
}

// cdi lists the CDI names of the devices that serve requests.
func (c *Claim) cdi(requests []string) []string {
	var out []string
	for _, driver := range slices.Sorted(maps.Keys(c.DriverState)) {
		for i := range c.DriverState[driver].Devices {
			d := &c.DriverState[driver].Devices[i]
			if slices.ContainsFunc(requests, d.serves) {
				out = append(out, d.CDIDeviceIDs...)
			}
		}
	}
	return out
}

// AddStatus tells in the statuses of containers which devices they have and how these feel. What was told before, in previous, stays when the claims
// are given back.
func (m *Manager) AddStatus(pod *corev1.Pod, status, previous *corev1.PodStatus) {
	if len(pod.Spec.ResourceClaims) == 0 {
		return
	}
	for i := range status.ContainerStatuses {
		s := &status.ContainerStatuses[i]
		at := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == s.Name })
		if at < 0 || len(pod.Spec.Containers[at].Resources.Claims) == 0 {
			continue
		}
		ours := m.resources(pod, &pod.Spec.Containers[at])
		if ours == nil {
			ours = toldBefore(previous, s.Name)
		}
		s.AllocatedResourcesStatus = append(slices.Clone(s.AllocatedResourcesStatus), ours...)
	}
}

// toldBefore is what a container's status said of its claims.
func toldBefore(previous *corev1.PodStatus, container string) []corev1.ResourceStatus {
	i := slices.IndexFunc(previous.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == container })
	if i < 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(previous.ContainerStatuses[i].AllocatedResourcesStatus), func(r corev1.ResourceStatus) bool {
		return !strings.HasPrefix(string(r.Name), claimResource)
	})
}

// claimResource is before the names of claims where resources are named.
const claimResource = "claim:"

func (m *Manager) resources(pod *corev1.Pod, c *corev1.Container) []corev1.ResourceStatus {
	var out []corev1.ResourceStatus
	for _, used := range c.Resources.Claims {
		i := slices.IndexFunc(pod.Spec.ResourceClaims, func(p corev1.PodResourceClaim) bool { return p.Name == used.Name })
		if i < 0 {
			continue
		}
		name, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil || name == nil {
			continue
		}
		status := corev1.ResourceStatus{Name: corev1.ResourceName(claimResource + used.Name)}
		if used.Request != "" {
			status.Name += corev1.ResourceName("/" + used.Request)
		}
		m.visit(pod.Namespace, *name, func(claim *Claim) { status.Resources = m.healthOf(claim, resourceclaim.BaseRequestRef(used.Request)) })
		if len(status.Resources) > 0 {
			out = append(out, status)
		}
	}
	return out
}

func (m *Manager) healthOf(claim *Claim, request string) []corev1.ResourceHealth {
	var out []corev1.ResourceHealth
	seen := map[corev1.ResourceID]bool{}
	for _, driver := range slices.Sorted(maps.Keys(claim.DriverState)) {
		for i := range claim.DriverState[driver].Devices {
			d := &claim.DriverState[driver].Devices[i]
			id := corev1.ResourceID(driver + "/" + d.PoolName + "/" + d.DeviceName)
			if len(d.CDIDeviceIDs) > 0 {
				id = corev1.ResourceID(d.CDIDeviceIDs[0])
			}
			if !d.serves(request) || seen[id] {
				continue
			}
			seen[id] = true
			is := m.health.get(driver, d.PoolName, d.DeviceName)
			health := corev1.ResourceHealth{ResourceID: id, Health: is.Health}
			if is.Message != "" {
				health.Message = &is.Message
			}
			out = append(out, health)
		}
	}
	return out
}
