package core

import corev1 "k8s.io/api/core/v1"

// ComputeQOS returns the class of service that a pod's requests and limits give it.
func ComputeQOS(spec *corev1.PodSpec) corev1.PodQOSClass {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	guaranteed := true
	if own := spec.Resources; own != nil {
		addCompute(requests, own.Requests)
		limited := addCompute(limits, own.Limits)
		guaranteed = len(own.Limits) == 0 || limited == len(computeResources)
	} else {
		for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
			for i := range list {
				addCompute(requests, list[i].Resources.Requests)
				if addCompute(limits, list[i].Resources.Limits) < len(computeResources) {
					guaranteed = false
				}
			}
		}
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	if !guaranteed || len(requests) != len(limits) {
		return corev1.PodQOSBurstable
	}
	for name, request := range requests {
		if limit, there := limits[name]; !there || limit.Cmp(request) != 0 {
			return corev1.PodQOSBurstable
		}
	}
	return corev1.PodQOSGuaranteed
}

var computeResources = [...]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// addCompute adds what of CPU and memory is more than nothing, and returns of how many that was so.
func addCompute(sum, list corev1.ResourceList) (found int) {
	for _, name := range computeResources {
		quantity, there := list[name]
		if !there || quantity.Sign() <= 0 {
			continue
		}
		found++
		total := quantity.DeepCopy()
		if before, there := sum[name]; there {
			total.Add(before)
		}
		sum[name] = total
	}
	return found
}
