package eviction

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// The annotations of an eviction's event.
const (
	starvedResource          = "starved_resource"
	offendingContainers      = "offending_containers"
	offendingContainersUsage = "offending_containers_usage"
	offendingPod             = "offending_pod"
	offendingPodUsage        = "offending_pod_usage"
)

const consumption = "%s %s was using %s, request is %s, has larger consumption of %v. "

// explain tells why a pod is evicted: in words, and in annotations for programs.
func explain(c Crossing, u *Usage) (text string, annotations map[string]string) {
	res := c.Signal.Resource()
	format := resource.BinarySI
	if res == "pids" || res == "inodes" {
		format = resource.DecimalSI
	}
	threshold, available := resource.NewQuantity(c.Value.Of(c.Observed.Capacity), format), resource.NewQuantity(c.Observed.Available, format)
	text = fmt.Sprintf("The node was low on resource: %v. Threshold quantity: %v, available: %v. ", res, threshold, kilo(available))
	annotations = map[string]string{}
	if res == corev1.ResourceMemory && resourcehelper.IsPodLevelResourcesSet(u.Pod) {
		if request, ok := u.Pod.Spec.Resources.Requests[res]; ok {
			used := kilo(resource.NewQuantity(u.Memory, format))
			text += fmt.Sprintf(consumption, "Pod", u.Pod.Name, used, request.String(), res)
			annotations[offendingPod], annotations[offendingPodUsage] = u.Pod.Name, used
		}
	}
	var names, amounts []string
	for _, container := range slices.Concat(u.Pod.Spec.InitContainers, u.Pod.Spec.Containers) {
		amount, ok := u.Containers[container.Name].of(res)
		request := container.Resources.Requests[res]
		if !ok || amount <= request.Value() {
			continue
		}
		used := kilo(resource.NewQuantity(amount, format))
		text += fmt.Sprintf(consumption, "Container", container.Name, used, request.String(), res)
		names, amounts = append(names, container.Name), append(amounts, used)
	}
	annotations[starvedResource] = string(res)
	annotations[offendingContainers], annotations[offendingContainersUsage] = strings.Join(names, ","), strings.Join(amounts, ",")
	return text, annotations
}

// of returns how much a container uses of what is told of containers.
func (u ContainerUsage) of(res corev1.ResourceName) (int64, bool) {
	switch res {
	case corev1.ResourceMemory:
		return u.Memory, true
	case corev1.ResourceEphemeralStorage:
		return u.Disk, true
	}
	return 0, false
}

// kilo rounds bytes to what people read.
func kilo(q *resource.Quantity) string {
	if q.Format == resource.BinarySI && q.Value() >= 1<<10 {
		return resource.NewQuantity(q.Value()>>10<<10, resource.BinarySI).String()
	}
	return q.String()
}
