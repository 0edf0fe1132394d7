package statefulset

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"clipper.dev/clipper/internal/controller/history"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

var gvk = appsv1.SchemeGroupVersion.WithKind("StatefulSet")

// hashLabel is the label of revisions.
const hashLabel = "controller.kubernetes.io/hash"

// counted is a number of collisions that is part of names and statuses from the first revision on, as upstream's.
func counted(collisions *int32) *int32 {
	if collisions == nil {
		return new(int32)
	}
	return collisions
}

// revisionName names a revision by its data.
func revisionName(set string) func([]byte, *int32) (string, string, string) {
	return func(data []byte, collisions *int32) (string, string, string) {
		h := fnv.New32()
		h.Write(data)
		if collisions != nil {
			h.Write([]byte(strconv.Itoa(int(*collisions))))
		}
		hash := rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
		return history.Name(set, hash), hashLabel, hash
	}
}

// ordinal returns the number in a pod's name, -1 if it isn't one of the set's.
func ordinal(set *appsv1.StatefulSet, pod *corev1.Pod) int {
	rest, ok := strings.CutPrefix(pod.Name, set.Name+"-")
	if !ok {
		return -1
	}
	n, err := strconv.ParseUint(rest, 10, 31)
	if err != nil || strconv.FormatUint(n, 10) != rest {
		return -1
	}
	return int(n)
}

func podName(set *appsv1.StatefulSet, n int) string { return fmt.Sprintf("%s-%d", set.Name, n) }

func claimName(set *appsv1.StatefulSet, claim *corev1.PersistentVolumeClaim, n int) string {
	return fmt.Sprintf("%s-%s-%d", claim.Name, set.Name, n)
}

func firstOrdinal(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

// newPod makes the pod of a number from a template.
func newPod(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, revision string, n int) *corev1.Pod {
	pod := podcontrol.FromTemplate(template, set.Namespace, set.Name, metav1.NewControllerRef(set, gvk))
	pod.Name = podName(set, n)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	identify(set, pod, n)
	pod.Labels[appsv1.StatefulSetRevisionLabel] = revision
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	mount(set, pod, n)
	return pod
}

// identify gives a pod the labels of its number.
func identify(set *appsv1.StatefulSet, pod *corev1.Pod, n int) {
	pod.Labels[appsv1.StatefulSetPodNameLabel] = pod.Name
	pod.Labels[appsv1.PodIndexLabel] = strconv.Itoa(n)
}

// mount lets a pod's volumes be those of its number.
func mount(set *appsv1.StatefulSet, pod *corev1.Pod, n int) {
	var own []corev1.Volume
	for i := range set.Spec.VolumeClaimTemplates {
		t := &set.Spec.VolumeClaimTemplates[i]
		own = append(own, corev1.Volume{Name: t.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, t, n)}}})
	}
	rest := slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return slices.ContainsFunc(own, func(o corev1.Volume) bool { return o.Name == v.Name })
	})
	pod.Spec.Volumes = append(own, rest...)
}

// identified tells whether a stored pod has the labels of its number.
func identified(set *appsv1.StatefulSet, pod *corev1.Pod) bool {
	return pod.Labels[appsv1.StatefulSetPodNameLabel] == pod.Name && pod.Labels[appsv1.PodIndexLabel] == strconv.Itoa(ordinal(set, pod))
}

// claims makes the volume claims of a number.
func claims(set *appsv1.StatefulSet, n int) []*corev1.PersistentVolumeClaim {
	var out []*corev1.PersistentVolumeClaim
	for i := range set.Spec.VolumeClaimTemplates {
		c := set.Spec.VolumeClaimTemplates[i].DeepCopy()
		c.Name, c.Namespace = claimName(set, c, n), set.Namespace
		labels := maps.Clone(c.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, set.Spec.Selector.MatchLabels)
		c.Labels = labels
		out = append(out, c)
	}
	return out
}

func revisionOf(pod *corev1.Pod) string { return pod.Labels[appsv1.StatefulSetRevisionLabel] }

func byOrdinal(set *appsv1.StatefulSet) func(a, b *corev1.Pod) int {
	return func(a, b *corev1.Pod) int { return cmp.Compare(ordinal(set, a), ordinal(set, b)) }
}
