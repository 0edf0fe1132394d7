package scheduler

import (
	corev1 "k8s.io/api/core/v1"

	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// nodeAffinityRule follows spec.nodeSelector and spec.affinity.nodeAffinity.
type nodeAffinityRule struct{}

var affinityMismatch = &refusal{reasons: []string{"node(s) didn't match Pod's node affinity/selector"}, unresolvable: true}

func (nodeAffinityRule) name() string { return "NodeAffinity" }

func (nodeAffinityRule) compile(p *podInfo, c *cluster) *rule {
	spec := &p.pod.Spec
	var affinity *corev1.NodeAffinity
	if spec.Affinity != nil {
		affinity = spec.Affinity.NodeAffinity
	}
	if len(spec.NodeSelector) == 0 && affinity == nil {
		return nil
	}
	r := &rule{weight: 2, scale: byMax, wait: nodeAdded | nodeLabels}
	if len(spec.NodeSelector) > 0 || affinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		required := nodeaffinity.GetRequiredNodeAffinity(p.pod)
		r.filter = func(slot int) *refusal {
			if ok, err := required.Match(c.nodes[slot].api); !ok || err != nil {
				return affinityMismatch
			}
			return nil
		}
	}
	if affinity != nil && len(affinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
		if preferred, err := nodeaffinity.NewPreferredSchedulingTerms(affinity.PreferredDuringSchedulingIgnoredDuringExecution); err == nil {
			r.score = func(slot int) int64 { return preferred.Score(c.nodes[slot].api) }
		}
	}
	return r
}
