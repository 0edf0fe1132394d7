package quota

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// resourceClaims counts ResourceClaims and the devices that they may get, by class and by the extended resource that the class stands for.
type resourceClaims struct{ devices Devices }

var resourceClaimCount = CountName(schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceclaims"})

func (resourceClaims) Handles(r Request) bool { return r.Subresource == "" }

func (e resourceClaims) Names(in []corev1.ResourceName) []corev1.ResourceName {
	var out []corev1.ResourceName
	for _, n := range in {
		resource, requested := strings.CutPrefix(string(n), requests)
		if n == resourceClaimCount || strings.HasSuffix(string(n), corev1.ResourceClaimsPerClass) || requested && e.devices.known(resource) {
			out = append(out, n)
		}
	}
	return out
}

func (resourceClaims) InScope(corev1.ScopedResourceSelectorRequirement, runtime.Object) bool {
	return false
}

func (resourceClaims) Constraints([]corev1.ResourceName, runtime.Object) error { return nil }

func (e resourceClaims) Usage(o runtime.Object, now time.Time) corev1.ResourceList {
	out := corev1.ResourceList{}
	claim, ok := o.(*resourcev1.ResourceClaim)
	if !ok {
		return out
	}
	classes := map[string]int{}
	for _, r := range claim.Spec.Devices.Requests {
		for class, n := range devicesOf(r) {
			classes[class] += n
		}
	}
	var counted corev1.ResourceList // as the pod's own
	if pod := e.devices.podOf(claim); pod != nil {
		counted = pods{}.Usage(pod, now)
	}
	out[resourceClaimCount] = count(1)
	for class, n := range classes {
		out[corev1.ResourceName(class+corev1.ResourceClaimsPerClass)] = count(n)
		names := []string{resourcev1.ResourceDeviceClassPrefix + class}
		if name := e.devices.extendedName(class); name != "" {
			names = append(names, name)
		}
		for _, name := range names {
			rest := count(n)
			rest.Sub(counted[corev1.ResourceName(requests+name)])
			if rest.Sign() > 0 {
				out[corev1.ResourceName(requests+name)] = rest
			}
		}
	}
	return out
}

// devicesOf is how many devices of each class a request may get at most.
func devicesOf(r resourcev1.DeviceRequest) map[string]int {
	out := map[string]int{}
	if r.Exactly != nil && len(r.FirstAvailable) == 0 {
		out[r.Exactly.DeviceClassName] = most(r.Exactly.AllocationMode, r.Exactly.Count)
	}
	for _, alternative := range r.FirstAvailable {
		n := most(alternative.AllocationMode, alternative.Count)
		if n > out[alternative.DeviceClassName] {
			out[alternative.DeviceClassName] = n
		}
	}
	return out
}

func most(mode resourcev1.DeviceAllocationMode, n int64) int {
	switch mode {
	case resourcev1.DeviceAllocationModeExactCount:
		return int(n)
	case resourcev1.DeviceAllocationModeAll:
		return resourcev1.AllocationResultsMaxSize
	}
	return 0
}
