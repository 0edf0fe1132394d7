package scheduler

// A plugin is one rule of scheduling, named as upstream names it. It is compiled once for a class of pods: what can be known
// from the pod alone is worked out then, and the result looks at one node at a time, by its slot in the cluster's columns.
//
// The life of a rule: compile for a class; filter for each node; score for the nodes that passed; and when no node did,
// wait tells which events could change that.
type plugin interface {
	name() string
	// compile returns what the rule has to say about pods like this one; nil if nothing.
	compile(p *podInfo, c *cluster) *rule
}

// rule is a plugin compiled for a class of pods.
type rule struct {
	plugin string
	// filter returns nil if the pod may run on the node, else why not. Nil if the rule never refuses.
	filter func(slot int) *refusal
	// score returns the node's raw score; nil if the rule does not score.
	score func(slot int) int64
	// weight of the score in the sum.
	weight int64
	// scale brings the raw scores of all feasible nodes to 0..100; raw is taken as it is when it is asIs.
	scale scaling
	// acrossNodes is set where the verdict on one node depends on pods on others, so that it cannot be kept for each node.
	// The class then asks about a cell of nodes at a time: those with equal coordinates, which must have equal verdicts and scores.
	// A node's coordinates change only with the node and with the pods on it.
	acrossNodes bool
	coordinates func(slot int, out []int64) []int64
	// begin is called with the feasible cells before they are scored; nil if there is nothing to prepare.
	begin func(feasible []*cell)
	// normalize brings the raw scores of all feasible cells to 0..100, in place.
	normalize func(raw []int64)
	// claims is what was found for the pod's claims; nil if that's none of the rule's business.
	claims *claimedDevices
	// release ends what compile began; nil if there is nothing.
	release func()
	// names are the only nodes that will do, whatever other rules say of the rest; nil is no such restriction.
	names map[string]bool
	// reject, if it isn't "", says why no node whatever will do.
	reject string
	// wait are the events after which a pod that this rule refused could fit.
	wait event
}

// refusal says why a node will not do.
type refusal struct {
	plugin  string
	reasons []string // for people: counted over nodes in the FailedScheduling message
	// unresolvable is set where removing pods from the node would not help, so that preemption need not try.
	unresolvable bool
}

// scaling tells how raw scores become 0..100.
type scaling int

const (
	asIs        scaling = iota // raw scores are 0..100
	byMax                      // 100 · raw / max
	byMaxInvert                // 100 − 100 · raw / max
)

const maxScore = 100

// of scales one raw score by the largest.
func (s scaling) of(raw, largest int64) int64 {
	switch {
	case s == asIs:
		return raw
	case largest == 0 && s == byMaxInvert:
		return maxScore
	case largest == 0:
		return 0
	case s == byMax:
		return maxScore * raw / largest
	}
	return maxScore - maxScore*raw/largest
}

// event is a set of kinds of change that could make a refused pod fit.
type event uint32

const (
	nodeAdded event = 1 << iota
	nodeLabels
	nodeTaints
	nodeUnschedulable
	nodeAllocatable
	podRemoved // a pod with a node ended, or asks for less
	podAdded   // a pod got a node, or changed its labels
	volumesChanged
	nodeRemoved
	podLeaving          // a pod that has a node is being deleted
	claimsChanged       // of devices: a claim of the pod, what others claim, or what there is
	everything    event = 1<<32 - 1
)

// eventLabels are upstream's words for the events, for metrics.
var eventLabels = []struct {
	event event
	label string
}{
	{nodeAdded, "NodeAdd"}, {nodeLabels, "NodeUpdateNodeLabel"}, {nodeTaints, "NodeUpdateNodeTaint"}, {nodeUnschedulable, "NodeUpdateNodeTaint"},
	{nodeAllocatable, "NodeUpdateNodeAllocatable"}, {nodeRemoved, "NodeDelete"}, {podRemoved, "AssignedPodDelete"}, {podAdded, "AssignedPodAdd"},
	{podLeaving, "AssignedPodUpdate"}, {volumesChanged, "PersistentVolumeClaimUpdate"}, {claimsChanged, "ResourceClaimUpdate"},
}

// label names the first of the events.
func (e event) label() string {
	for _, l := range eventLabels {
		if e&l.event != 0 {
			return l.label
		}
	}
	return ""
}

// plugins are the rules in the order in which they refuse: a node's refusal is that of the first.
func plugins() []plugin {
	return []plugin{
		unschedulable{}, nodeName{}, taints{}, nodeAffinityRule{}, ports{}, resources{},
		volumeRestrictions{}, volumeLimits{}, volumeBinding{}, volumeZone{}, spread{}, podAffinity{}, dynamicResources{}, balance{}, images{},
	}
}
