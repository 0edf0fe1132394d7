// Package downward reads a pod's own fields for its containers: the downward API of environment variables and volumes.
//
//	value, err := downward.Field(pod, "metadata.labels['app']")
//	value, err := downward.Resource(pod, container, selector, allocatable)
//
// A pod goes in, text comes out. Fields that only the node knows (addresses) are the caller's, see Node.
package downward

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Node is what fields of the status answer with.
type Node struct {
	HostIPs, PodIPs []string
	// Allocatable stands in for limits that a container doesn't have.
	Allocatable corev1.ResourceList
}

// Field returns the value of one field of the pod.
func Field(pod *corev1.Pod, path string, node Node) (string, error) {
	if base, key, ok := subscript(path); ok {
		return subscripted(pod, path, base, key)
	}
	switch path {
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		if len(node.HostIPs) == 0 {
			return "", fmt.Errorf("the node has no address yet")
		}
		return node.HostIPs[0], nil
	case "status.hostIPs":
		return strings.Join(node.HostIPs, ","), nil
	case "status.podIP":
		if len(node.PodIPs) == 0 {
			return "", nil
		}
		return node.PodIPs[0], nil
	case "status.podIPs":
		return strings.Join(node.PodIPs, ","), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", path)
}

func subscripted(pod *corev1.Pod, path, base, key string) (string, error) {
	var values map[string]string
	name := key
	switch base {
	case "metadata.annotations":
		values, name = pod.Annotations, strings.ToLower(key)
	case "metadata.labels":
		values = pod.Labels
	default:
		return "", fmt.Errorf("fieldPath %q does not support subscript", path)
	}
	if errs := validation.IsQualifiedName(name); len(errs) != 0 {
		return "", fmt.Errorf("invalid key subscript in %s: %s", path, strings.Join(errs, ";"))
	}
	return values[key], nil
}

// subscript splits metadata.labels['a'] into its parts.
func subscript(path string) (base, key string, ok bool) {
	inner, ok := strings.CutSuffix(path, "']")
	if !ok {
		return "", "", false
	}
	base, key, ok = strings.Cut(inner, "['")
	return base, key, ok && base != ""
}

func formatMap(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	lines := make([]string, len(keys))
	for i, k := range keys {
		lines[i] = k + "=" + strconv.Quote(m[k])
	}
	return strings.Join(lines, "\n")
}

// Resource returns a resource of a container, in units of the selector's divisor, rounded up. The container is the selector's, or
// the one given when the selector names none.
func Resource(pod *corev1.Pod, c *corev1.Container, sel *corev1.ResourceFieldSelector, node Node) (string, error) {
	if sel.ContainerName != "" {
		if c = find(pod, sel.ContainerName); c == nil {
			return "", fmt.Errorf("container %s not found", sel.ContainerName)
		}
	}
	if c == nil {
		return "", fmt.Errorf("resource %s names no container", sel.Resource)
	}
	kind, name, ok := strings.Cut(sel.Resource, ".")
	res := corev1.ResourceName(name)
	known := res == corev1.ResourceCPU || res == corev1.ResourceMemory || res == corev1.ResourceEphemeralStorage
	if !ok || !known && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) {
		return "", fmt.Errorf("unsupported container resource : %v", sel.Resource)
	}
	var q resource.Quantity
	switch kind {
	case "requests":
		q = c.Resources.Requests[res]
	case "limits":
		if q = c.Resources.Limits[res]; q.IsZero() && known {
			q = defaultLimit(pod, res, node)
		}
	default:
		return "", fmt.Errorf("unsupported container resource : %v", sel.Resource)
	}
	return divide(q, sel.Divisor, res == corev1.ResourceCPU), nil
}

// defaultLimit is what bounds a container that has no limit: the pod's, else the node.
func defaultLimit(pod *corev1.Pod, res corev1.ResourceName, node Node) resource.Quantity {
	allocatable := node.Allocatable[res]
	if pod.Spec.Resources != nil {
		if q := pod.Spec.Resources.Limits[res]; !q.IsZero() && (allocatable.IsZero() || q.Cmp(allocatable) < 0) {
			return q
		}
	}
	return allocatable
}

func find(pod *corev1.Pod, name string) *corev1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return &pod.Spec.Containers[i]
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return &pod.Spec.InitContainers[i]
		}
	}
	return nil
}

func divide(q, divisor resource.Quantity, milli bool) string {
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	n, d := q.Value(), divisor.Value()
	if milli {
		n, d = q.MilliValue(), divisor.MilliValue()
	}
	return strconv.FormatInt(int64(math.Ceil(float64(n)/float64(d))), 10)
}
