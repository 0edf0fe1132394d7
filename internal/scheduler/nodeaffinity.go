package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		if affinity != nil && affinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
			if r.names = namesIn(affinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms); r.names != nil && len(r.names) == 0 {
				r.reject = "pod affinity terms conflict"
			}
		}
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

// namesIn returns the only nodes that terms can match, where every one of them goes by the node's name; else nil.
func namesIn(terms []corev1.NodeSelectorTerm) map[string]bool {
	if len(terms) == 0 {
		return nil
	}
	all := map[string]bool{}
	for _, term := range terms {
		var names map[string]bool
		for _, f := range term.MatchFields {
			if f.Key != metav1.ObjectNameField || f.Operator != corev1.NodeSelectorOpIn {
				continue
			}
			both := map[string]bool{}
			for _, name := range f.Values {
				if names == nil || names[name] {
					both[name] = true
				}
			}
			names = both
		}
		if names == nil {
			return nil
		}
		maps.Copy(all, names)
	}
	return all
}
