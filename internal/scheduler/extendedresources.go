package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/apimachinery/pkg/types"
)

// extendedResources are those of a pod that device classes stand for. On a node that has them by a device plugin they are none of this.
type extendedResources struct {
	pod      *corev1.Pod
	asked    []amount
	existing *resourcev1.ResourceClaim // left from an attempt that failed
	made     map[string]*extendedClaim // by the resources that a node lacks
}

// extendedClaim is a claim that a pod's extended resources come to, and which containers have which of its requests.
type extendedClaim struct {
	claim    *resourcev1.ResourceClaim
	mappings []corev1.ContainerExtendedResourceRequest
}

// extendedResourcesOf returns nil for a pod without any.
func (c *cluster) extendedResourcesOf(p *podInfo) *extendedResources {
	var out *extendedResources
	for _, a := range p.requests {
		if a.column <= podsColumn || c.devices.Backs(c.columnNames[a.column]) == nil {
			continue
		}
		if out == nil {
			out = &extendedResources{pod: p.pod, made: map[string]*extendedClaim{}}
		}
		out.asked = append(out.asked, a)
	}
	if out != nil {
		c.devices.Claims(func(claim *resourcev1.ResourceClaim) bool {
			if claim.Annotations[resourcev1.ExtendedResourceClaimAnnotation] == "true" && ownedBy(claim, p.pod.UID) {
				out.existing = claim
			}
			return out.existing == nil
		})
	}
	return out
}

func ownedBy(claim *resourcev1.ResourceClaim, uid types.UID) bool {
	return slices.ContainsFunc(claim.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == uid })
}

// on returns the claim for what a node hasn't got by itself; nil if it has all.
func (e *extendedResources) on(c *cluster, slot int) (*extendedClaim, *refusal) {
	if e == nil {
		return nil, nil
	}
	if e.existing != nil {
		return nil, claimRefusal("cannot schedule extended resource claim")
	}
	var lacking []string
	for _, a := range e.asked {
		if c.allocatable[a.column][slot] == 0 {
			lacking = append(lacking, string(c.columnNames[a.column]))
		}
	}
	if len(lacking) == 0 {
		return nil, nil
	}
	slices.Sort(lacking)
	key := strings.Join(lacking, ",")
	if e.made[key] == nil {
		e.made[key] = e.claim(c, lacking)
	}
	return e.made[key], nil
}

func (e *extendedResources) claim(c *cluster, resources []string) *extendedClaim {
	out := &extendedClaim{claim: &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: e.pod.Namespace, GenerateName: e.pod.Name + "-extended-resources-",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: e.pod.Name, UID: e.pod.UID, Controller: new(true)}},
		Annotations:     map[string]string{resourcev1.ExtendedResourceClaimAnnotation: "true"},
		Finalizers:      []string{resourcev1.Finalizer},
	}}}
	for _, name := range resources {
		out.add(e.pod, corev1.ResourceName(name), c.devices.Backs(corev1.ResourceName(name)).Name)
	}
	slices.SortFunc(out.claim.Spec.Devices.Requests, func(a, b resourcev1.DeviceRequest) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// add requests the devices that a resource stands for. Containers that end before others begin share with them: an init container takes what the
// containers after it have, and of what is missing the largest amount that any of them lacks.
func (x *extendedClaim) add(pod *corev1.Pod, name corev1.ResourceName, class string) {
	containers := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
	short := func(i int) bool {
		policy := containers[i].RestartPolicy
		return i < len(pod.Spec.InitContainers) && (policy == nil || *policy != corev1.ContainerRestartPolicyAlways)
	}
	lasting := make([]*resourcev1.DeviceRequest, len(containers))
	var ofLasting, ofShort []corev1.ContainerExtendedResourceRequest
	for i := range containers {
		if !short(i) {
			var m []corev1.ContainerExtendedResourceRequest
			lasting[i], m = requestFor(i, &containers[i], name, class, nil)
			ofLasting = append(ofLasting, m...)
		}
	}
	var largest *resourcev1.DeviceRequest
	replaced := map[string]bool{}
	for i := range containers {
		if !short(i) {
			continue
		}
		request, m := requestFor(i, &containers[i], name, class, lasting[i:])
		ofShort = append(ofShort, m...)
		if request == nil {
			continue
		}
		replaced[request.Name] = true
		if largest == nil || largest.Exactly.Count < request.Exactly.Count {
			largest = request
		}
	}
	for i := range ofShort {
		if replaced[ofShort[i].RequestName] {
			ofShort[i].RequestName = largest.Name
		}
	}
	requests := &x.claim.Spec.Devices.Requests
	if largest != nil {
		*requests = append(*requests, *largest)
	}
	for _, r := range lasting {
		if r != nil {
			*requests = append(*requests, *r)
		}
	}
	x.mappings = append(append(x.mappings, ofLasting...), ofShort...)
}

// requestFor returns what a container needs beyond the requests that it can use, nil if nothing, and which requests it uses.
func requestFor(index int, c *corev1.Container, name corev1.ResourceName, class string, usable []*resourcev1.DeviceRequest) (*resourcev1.DeviceRequest, []corev1.ContainerExtendedResourceRequest) {
	quantity := c.Resources.Requests[name]
	count := quantity.Value()
	if count == 0 {
		return nil, nil
	}
	mapping := func(request string) corev1.ContainerExtendedResourceRequest {
		return corev1.ContainerExtendedResourceRequest{ContainerName: c.Name, ResourceName: string(name), RequestName: request}
	}
	var mappings []corev1.ContainerExtendedResourceRequest
	for _, r := range usable {
		if r == nil {
			continue
		}
		count -= r.Exactly.Count
		mappings = append(mappings, mapping(r.Name))
		if count <= 0 {
			return nil, mappings
		}
	}
	position := slices.Index(slices.Sorted(maps.Keys(c.Resources.Requests)), name)
	request := &resourcev1.DeviceRequest{
		Name:    fmt.Sprintf("container-%d-request-%d", index, position),
		Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: class, AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: count},
	}
	return request, append(mappings, mapping(request.Name))
}
