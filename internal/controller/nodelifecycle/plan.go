package nodelifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Upstream's defaults.
const (
	gracePeriod        = 50 * time.Second // from the last heartbeat until a node counts as lost
	startupGracePeriod = 60 * time.Second // the same for one that has never posted its status
)

// silent are the conditions that become Unknown when the kubelet falls silent.
var silent = []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

func conditionOf(node *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == kind {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

func ready(node *corev1.Node) corev1.ConditionStatus {
	if c := conditionOf(node, corev1.NodeReady); c != nil {
		return c.Status
	}
	return corev1.ConditionUnknown
}

// makeUnknown returns a node's conditions after its kubelet has fallen silent, and whether that changes them.
func makeUnknown(node *corev1.Node, now time.Time) ([]corev1.NodeCondition, bool) {
	out := slices.Clone(node.Status.Conditions)
	changed := false
	for _, kind := range silent {
		i := slices.IndexFunc(out, func(c corev1.NodeCondition) bool { return c.Type == kind })
		if i < 0 {
			out = append(out, corev1.NodeCondition{Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message: "Kubelet never posted node status.", LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: metav1.NewTime(now)})
			changed = true
			continue
		}
		if out[i].Status == corev1.ConditionUnknown {
			continue
		}
		out[i].Status, out[i].Reason, out[i].Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
		out[i].LastTransitionTime = metav1.NewTime(now)
		changed = true
	}
	return out, changed
}

// noScheduleTaints are the taints that follow from conditions.
var noScheduleTaints = []struct {
	kind   corev1.NodeConditionType
	status corev1.ConditionStatus
	taint  string
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
}

// execution is what shall be done about a node's NoExecute taints.
type execution int

const (
	clear execution = iota // the node is ready: none
	keep                   // leave them as they are
	evict                  // as the Ready condition says
)

// taints returns what a node's taints should be, and whether they differ from what they are. Taints of others are left alone.
func taints(node *corev1.Node, exec execution, now time.Time) ([]corev1.Taint, bool) {
	var want []corev1.Taint
	for _, t := range noScheduleTaints {
		if c := conditionOf(node, t.kind); c != nil && c.Status == t.status {
			want = append(want, corev1.Taint{Key: t.taint, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	if node.Spec.Unschedulable {
		want = append(want, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	if exec == evict {
		key := corev1.TaintNodeUnreachable
		if ready(node) == corev1.ConditionFalse {
			key = corev1.TaintNodeNotReady
		}
		want = append(want, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute})
	}
	changed := false
	var out []corev1.Taint
	for _, t := range node.Spec.Taints {
		if i := slices.IndexFunc(want, func(w corev1.Taint) bool { return w.MatchTaint(&t) }); i >= 0 {
			out = append(out, t)
			want = slices.Delete(want, i, i+1)
			continue
		}
		if owned(t) && (t.Effect != corev1.TaintEffectNoExecute || exec != keep) {
			changed = true
			continue
		}
		out = append(out, t)
	}
	for _, t := range want {
		t.TimeAdded = &metav1.Time{Time: now}
		out = append(out, t)
		changed = true
	}
	return out, changed
}

// owned tells whether a taint is this controller's to set and remove.
func owned(t corev1.Taint) bool {
	switch t.Effect {
	case corev1.TaintEffectNoExecute:
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	case corev1.TaintEffectNoSchedule:
		return t.Key == corev1.TaintNodeUnschedulable ||
			slices.ContainsFunc(noScheduleTaints, func(n struct {
				kind   corev1.NodeConditionType
				status corev1.ConditionStatus
				taint  string
			}) bool {
				return n.taint == t.Key
			})
	}
	return false
}

// doubled are labels that older programs know by another name: what the first says goes for the second.
var doubled = [][2]string{
	{corev1.LabelOSStable, "beta.kubernetes.io/os"},
	{corev1.LabelArchStable, "beta.kubernetes.io/arch"},
}

// missingLabels returns the labels that a node lacks or has wrong.
func missingLabels(node *corev1.Node) map[string]string {
	out := map[string]string{}
	for _, pair := range doubled {
		if value, ok := node.Labels[pair[0]]; ok && node.Labels[pair[1]] != value {
			out[pair[1]] = value
		}
	}
	return out
}
