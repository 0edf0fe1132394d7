package daemonset

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"clipper.dev/clipper/internal/controller/podcontrol"
)

// generationLabel numbers the template as an older form of DaemonSet did; programs still read it.
const generationLabel = "pod-template-generation"

const generationAnnotation = "deprecated.daemonset.template.generation"

var gvk = appsv1.SchemeGroupVersion.WithKind("DaemonSet")

// tolerations are what every daemon pod tolerates: it stays when its node has trouble.
func tolerations(hostNetwork bool) []corev1.Toleration {
	out := []corev1.Toleration{
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeDiskPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodePIDPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	}
	if hostNetwork {
		out = append(out, corev1.Toleration{Key: corev1.TaintNodeNetworkUnavailable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	return out
}

func tolerate(spec *corev1.PodSpec) {
	for _, t := range tolerations(spec.HostNetwork) {
		found := false
		for i := range spec.Tolerations {
			if spec.Tolerations[i].MatchToleration(&t) {
				spec.Tolerations[i], found = t, true
			}
		}
		if !found {
			spec.Tolerations = append(spec.Tolerations, t)
		}
	}
}

// newPod makes the pod for a node.
func newPod(ds *appsv1.DaemonSet, node, hash string) *corev1.Pod {
	pod := podcontrol.FromTemplate(&ds.Spec.Template, ds.Namespace, ds.Name, metav1.NewControllerRef(ds, gvk))
	tolerate(&pod.Spec)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	if g, ok := ds.Annotations[generationAnnotation]; ok {
		if _, err := strconv.ParseInt(g, 10, 64); err == nil {
			pod.Labels[generationLabel] = g
		}
	}
	pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	pin(&pod.Spec, node)
	return pod
}

// pin adds to each of a pod's node selector terms that the node is this one.
func pin(spec *corev1.PodSpec, node string) {
	here := []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	// The scheduler finds a pinned pod's node without looking at others if this is all that the terms say; the template's own
	// affinity was judged before the pod was made.
	spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: here}}}
}

// nodeOf returns the node that a pod is on, or is pinned to.
func nodeOf(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

// wants tells whether a node should have a pod, and whether one that's there may stay.
func wants(ds *appsv1.DaemonSet, node *corev1.Node) (run, stay bool) {
	spec := ds.Spec.Template.Spec
	spec.Tolerations = append([]corev1.Toleration(nil), spec.Tolerations...)
	tolerate(&spec)
	if spec.NodeName != "" && spec.NodeName != node.Name {
		return false, false
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(&corev1.Pod{Spec: spec}).Match(node); err != nil || !ok {
		return false, false
	}
	if _, bad := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute
	}, false); bad {
		return false, false
	}
	_, bad := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule
	}, false)
	return !bad, true
}
