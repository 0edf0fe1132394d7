package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
)

// unschedulable keeps pods off cordoned nodes, unless they tolerate the taint that stands for it.
type unschedulable struct{}

var cordoned = &refusal{reasons: []string{"node(s) were unschedulable"}, unresolvable: true}

func (unschedulable) name() string { return "NodeUnschedulable" }

func (unschedulable) compile(p *podInfo, c *cluster) *rule {
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if schedulinghelpers.TolerationsTolerateTaint(klog.Background(), p.pod.Spec.Tolerations, &taint, false) {
		return nil
	}
	return &rule{
		wait: nodeAdded | nodeUnschedulable,
		filter: func(slot int) *refusal {
			if c.nodes[slot].api.Spec.Unschedulable {
				return cordoned
			}
			return nil
		},
	}
}
