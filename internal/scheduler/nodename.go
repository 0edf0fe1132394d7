package scheduler

// nodeName keeps a pod that names its node to that node. (Pods whose node is already set never come here through the API;
// the rule is upstream's and serves those that are judged again.)
type nodeName struct{}

var otherName = &refusal{reasons: []string{"node(s) didn't match the requested node name"}, unresolvable: true}

func (nodeName) name() string { return "NodeName" }

func (nodeName) compile(p *podInfo, c *cluster) *rule {
	want := p.pod.Spec.NodeName
	if want == "" {
		return nil
	}
	return &rule{
		wait: nodeAdded,
		filter: func(slot int) *refusal {
			if c.nodes[slot].api.Name != want {
				return otherName
			}
			return nil
		},
	}
}
