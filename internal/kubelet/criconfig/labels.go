package criconfig

import (
	"encoding/json"
	"hash/fnv"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// Labels of sandboxes and containers.
const (
	PodNameLabel       = "io.kubernetes.pod.name"
	PodNamespaceLabel  = "io.kubernetes.pod.namespace"
	PodUIDLabel        = "io.kubernetes.pod.uid"
	ContainerNameLabel = "io.kubernetes.container.name"
	// OwnerLabel names the kubelet that made a sandbox or container. What bears another owner, or none, is never touched.
	OwnerLabel = "clipper.dev/kubelet"
)

// Annotations of containers.
const (
	hashAnnotation              = "io.kubernetes.container.hash"
	restartCountAnnotation      = "io.kubernetes.container.restartCount"
	terminationPathAnnotation   = "io.kubernetes.container.terminationMessagePath"
	terminationPolicyAnnotation = "io.kubernetes.container.terminationMessagePolicy"
	preStopAnnotation           = "io.kubernetes.container.preStopHandler"
	portsAnnotation             = "io.kubernetes.container.ports"
	deletionGraceAnnotation     = "io.kubernetes.pod.deletionGracePeriod"
	terminationGraceAnnotation  = "io.kubernetes.pod.terminationGracePeriod"
	resourcesAnnotation         = "clipper.dev/resources"
)

// Hash returns the value by which a changed container spec is recognized: of all fields, only a changed image restarts a container.
func Hash(c *corev1.Container) string {
	data, err := json.Marshal(map[string]string{"name": c.Name, "image": c.Image})
	if err != nil {
		panic("encode two strings: " + err.Error()) // cannot fail
	}
	h := fnv.New32a()
	h.Write(data)
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}

func podLabels(n *Node, pod *corev1.Pod) map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, pod.Labels)
	labels[PodNameLabel] = pod.Name
	labels[PodNamespaceLabel] = pod.Namespace
	labels[PodUIDLabel] = string(pod.UID)
	labels[OwnerLabel] = n.Owner
	return labels
}

func containerLabels(n *Node, pod *corev1.Pod, c *corev1.Container) map[string]string {
	return map[string]string{
		PodNameLabel:       pod.Name,
		PodNamespaceLabel:  pod.Namespace,
		PodUIDLabel:        string(pod.UID),
		ContainerNameLabel: c.Name,
		OwnerLabel:         n.Owner,
	}
}

func containerAnnotations(pod *corev1.Pod, c *corev1.Container, restartCount int32, extra map[string]string) map[string]string {
	a := map[string]string{}
	maps.Copy(a, extra)
	a[hashAnnotation] = Hash(c)
	a[resourcesAnnotation] = ResourcesKey(pod, c)
	a[restartCountAnnotation] = strconv.Itoa(int(restartCount))
	a[terminationPathAnnotation] = c.TerminationMessagePath
	a[terminationPolicyAnnotation] = string(c.TerminationMessagePolicy)
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		a[deletionGraceAnnotation] = strconv.FormatInt(*g, 10)
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		a[terminationGraceAnnotation] = strconv.FormatInt(*g, 10)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		a[preStopAnnotation] = encode(c.Lifecycle.PreStop)
	}
	if len(c.Ports) > 0 {
		a[portsAnnotation] = encode(c.Ports)
	}
	return a
}

func encode(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic("encode an API type: " + err.Error()) // API types always encode
	}
	return string(data)
}

// Annotated is what a container's annotations tell of how it was made.
type Annotated struct {
	Hash                     string
	Resources                string // ResourcesKey at that time
	RestartCount             int32
	TerminationMessagePath   string
	TerminationMessagePolicy corev1.TerminationMessagePolicy
	PreStop                  *corev1.LifecycleHandler
	Ports                    []corev1.ContainerPort
	DeletionGracePeriod      *int64
	TerminationGracePeriod   *int64
}

// ParseAnnotations reads back what Container wrote. Whatever doesn't parse is left at its zero value: the annotations
// come from the runtime, and a container must be killable in any case.
func ParseAnnotations(a map[string]string) Annotated {
	out := Annotated{
		Hash:                     a[hashAnnotation],
		Resources:                a[resourcesAnnotation],
		TerminationMessagePath:   a[terminationPathAnnotation],
		TerminationMessagePolicy: corev1.TerminationMessagePolicy(a[terminationPolicyAnnotation]),
		DeletionGracePeriod:      parseInt(a[deletionGraceAnnotation]),
		TerminationGracePeriod:   parseInt(a[terminationGraceAnnotation]),
	}
	if n := parseInt(a[restartCountAnnotation]); n != nil {
		out.RestartCount = int32(*n)
	}
	if s := a[preStopAnnotation]; s != "" {
		var h corev1.LifecycleHandler
		if json.Unmarshal([]byte(s), &h) == nil {
			out.PreStop = &h
		}
	}
	if s := a[portsAnnotation]; s != "" {
		var ports []corev1.ContainerPort
		if json.Unmarshal([]byte(s), &ports) == nil {
			out.Ports = ports
		}
	}
	return out
}

func parseInt(s string) *int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil
	}
	return &n
}
