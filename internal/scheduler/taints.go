package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
)

// taints keeps pods off nodes whose NoSchedule and NoExecute taints they don't tolerate, and prefers nodes with fewer
// PreferNoSchedule taints that they don't.
type taints struct{}

var untolerated = &refusal{reasons: []string{"node(s) had untolerated taint(s)"}, unresolvable: true}

func (taints) name() string { return "TaintToleration" }

func (taints) compile(p *podInfo, c *cluster) *rule {
	var soft []corev1.Toleration
	for _, t := range p.pod.Spec.Tolerations {
		if t.Effect == "" || t.Effect == corev1.TaintEffectPreferNoSchedule {
			soft = append(soft, t)
		}
	}
	tolerations := p.pod.Spec.Tolerations
	return &rule{
		weight: 3,
		scale:  byMaxInvert,
		wait:   nodeAdded | nodeTaints,
		filter: func(slot int) *refusal {
			all := c.nodes[slot].api.Spec.Taints
			if len(all) == 0 {
				return nil
			}
			_, found := schedulinghelpers.FindMatchingUntoleratedTaint(klog.Background(), all, tolerations, hardTaint, false)
			if !found {
				return nil
			}
			return untolerated
		},
		score: func(slot int) int64 {
			var n int64
			for i := range c.nodes[slot].api.Spec.Taints {
				taint := &c.nodes[slot].api.Spec.Taints[i]
				if taint.Effect == corev1.TaintEffectPreferNoSchedule && !schedulinghelpers.TolerationsTolerateTaint(klog.Background(), soft, taint, false) {
					n++
				}
			}
			return n
		},
	}
}

func hardTaint(t *corev1.Taint) bool {
	return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
}
