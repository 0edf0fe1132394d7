package scheduler

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/scheduler/devices"
)

// The first columns of resources; further ones are given to names as they appear.
const (
	cpuColumn = iota // millicores
	memoryColumn
	storageColumn
	podsColumn
)

// cluster is the scheduler's picture of the nodes and of the pods on them: columns over nodes. A node keeps its slot for
// as long as it exists. Not safe for concurrent use.
type cluster struct {
	nodes  []*node // by slot; nil is a free one
	byName map[string]*node
	free   []int
	count  int
	pods   map[types.UID]*podInfo // those that have a node, in the API or assumed

	columns     map[corev1.ResourceName]int
	columnNames []corev1.ResourceName
	allocatable [][]int64 // by column, then slot
	requested   [][]int64
	scoredCPU   []int64 // requests as scores see them: a pod that asks for nothing counts with a default
	scoredMem   []int64

	changes changeLog
	images  map[string]*imageState

	topologies map[string]*topology
	allTallies map[*tally]bool
	tallies    map[string][]*tally // those that choose their pods, by namespace
	namespaces map[string]labels.Set
	workloads  workloads
	volumes    volumes
	devices    *devices.Inventory
	now        time.Time // of the decision that is being made

	carried     map[string]*carriedTerm // affinity terms of pods that are there or wait
	carriedIn   map[string][]*carriedTerm
	carriedMade uint64
	sweepAt     int
	// byNamespaceLabels is set once a term has chosen namespaces by their labels.
	byNamespaceLabels bool
	// relations counts the changes of what may relate pods to one another.
	relations uint64
}

// node is what the columns don't hold.
type node struct {
	slot   int
	api    *corev1.Node // read-only
	pods   map[types.UID]*podInfo
	ports  portSet
	images map[string]bool
}

func newCluster() *cluster {
	c := &cluster{
		byName: map[string]*node{}, pods: map[types.UID]*podInfo{}, columns: map[corev1.ResourceName]int{}, images: map[string]*imageState{},
		topologies: map[string]*topology{}, allTallies: map[*tally]bool{}, tallies: map[string][]*tally{}, namespaces: map[string]labels.Set{},
		workloads: newWorkloads(), volumes: newVolumes(), devices: devices.New(), carried: map[string]*carriedTerm{}, carriedIn: map[string][]*carriedTerm{}, sweepAt: mostCarried, relations: 1,
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourcePods} {
		c.column(name)
	}
	return c
}

// column returns the index of a resource's column, which it makes if need be.
func (c *cluster) column(name corev1.ResourceName) int {
	i, ok := c.columns[name]
	if !ok {
		i = len(c.columnNames)
		c.columns[name] = i
		c.columnNames = append(c.columnNames, name)
		c.allocatable = append(c.allocatable, make([]int64, len(c.nodes)))
		c.requested = append(c.requested, make([]int64, len(c.nodes)))
	}
	return i
}

// setNode adds or updates a node and returns what about it changed.
func (c *cluster) setNode(api *corev1.Node) event {
	n, known := c.byName[api.Name]
	if !known {
		n = c.addSlot(api)
	}
	before := n.api
	n.api = api
	for i := range c.allocatable {
		c.allocatable[i][n.slot] = 0
	}
	for name, quantity := range api.Status.Allocatable {
		value := quantity.Value()
		if name == corev1.ResourceCPU {
			value = quantity.MilliValue()
		}
		c.allocatable[c.column(name)][n.slot] = value
	}
	c.updateImages(n, api)
	if !known {
		c.regroup(n.slot, false)
		c.changes.add(n.slot)
		return nodeAdded
	}
	what := nodeChange(before, api)
	if what&(nodeLabels|nodeTaints) != 0 {
		c.regroup(n.slot, false)
	}
	if what != 0 || !equality.Semantic.DeepEqual(before.Status.Images, api.Status.Images) {
		c.changes.add(n.slot)
	}
	return what
}

func (c *cluster) addSlot(api *corev1.Node) *node {
	n := &node{api: api, pods: map[types.UID]*podInfo{}, ports: portSet{}}
	c.byName[api.Name] = n
	c.count++
	if last := len(c.free) - 1; last >= 0 {
		n.slot, c.free = c.free[last], c.free[:last]
		c.nodes[n.slot] = n
	} else {
		n.slot = len(c.nodes)
		c.nodes = append(c.nodes, n)
		for i := range c.allocatable {
			c.allocatable[i] = append(c.allocatable[i], 0)
			c.requested[i] = append(c.requested[i], 0)
		}
		c.scoredCPU, c.scoredMem = append(c.scoredCPU, 0), append(c.scoredMem, 0)
		for _, t := range c.topologies {
			t.of = append(t.of, noDomain)
		}
		for t := range c.allTallies {
			t.grow(len(c.nodes))
		}
	}
	// Pods may be known before their node.
	for _, p := range c.pods {
		if p.node == api.Name {
			c.account(n, p, 1)
		}
	}
	return n
}

func (c *cluster) removeNode(name string) {
	n, ok := c.byName[name]
	if !ok {
		return
	}
	c.updateImages(n, nil)
	for _, p := range n.pods {
		c.account(n, p, -1)
	}
	c.regroup(n.slot, true)
	delete(c.byName, name)
	c.nodes[n.slot] = nil
	c.free = append(c.free, n.slot)
	c.count--
	c.changes.add(n.slot)
}

// addPod accounts a pod to its node.
func (c *cluster) addPod(p *podInfo) {
	c.pods[p.pod.UID] = p
	if n, ok := c.byName[p.node]; ok {
		c.account(n, p, 1)
		c.changes.add(n.slot)
	}
}

// removePod takes it away again; it returns nil if the pod had no node.
func (c *cluster) removePod(uid types.UID) *podInfo {
	p, ok := c.pods[uid]
	if !ok {
		return nil
	}
	delete(c.pods, uid)
	if n, ok := c.byName[p.node]; ok {
		c.account(n, p, -1)
		c.changes.add(n.slot)
	}
	return p
}

func (c *cluster) account(n *node, p *podInfo, sign int64) {
	for _, a := range p.requests {
		c.requested[a.column][n.slot] += sign * a.value
	}
	c.scoredCPU[n.slot] += sign * p.scoredCPU
	c.scoredMem[n.slot] += sign * p.scoredMem
	c.countPod(n.slot, p, sign)
	c.volumes.countClaims(p, int(sign))
	if sign > 0 {
		n.pods[p.pod.UID] = p
		n.ports.add(p.ports)
		return
	}
	delete(n.pods, p.pod.UID)
	n.ports.remove(p.ports)
}

// changeLog remembers which slots changed, in order, so that a class can repair what changed since it last looked.
type changeLog struct {
	first uint64 // the number of slots[0]
	slots []int32
}

const changesKept = 1 << 14

func (l *changeLog) add(slot int) {
	if len(l.slots) == changesKept {
		l.first += changesKept / 2
		l.slots = append(l.slots[:0], l.slots[changesKept/2:]...)
	}
	l.slots = append(l.slots, int32(slot))
}

func (l *changeLog) end() uint64 { return l.first + uint64(len(l.slots)) }

// since returns the slots that changed from a position on; false if it has forgotten them.
func (l *changeLog) since(position uint64) ([]int32, bool) {
	if position < l.first {
		return nil, false
	}
	return l.slots[position-l.first:], true
}

// nodeChange tells what about a node changed that could matter to a pod.
func nodeChange(before, after *corev1.Node) event {
	var what event
	if before.Spec.Unschedulable != after.Spec.Unschedulable {
		what |= nodeUnschedulable
	}
	if !equality.Semantic.DeepEqual(before.Labels, after.Labels) {
		what |= nodeLabels
	}
	if !equality.Semantic.DeepEqual(before.Spec.Taints, after.Spec.Taints) {
		what |= nodeTaints
	}
	if !equality.Semantic.DeepEqual(before.Status.Allocatable, after.Status.Allocatable) {
		what |= nodeAllocatable
	}
	return what
}

// setNamespace tells of a namespace's labels; nil when it is gone. It returns whether that changes which pods relate to which.
func (c *cluster) setNamespace(name string, ns *corev1.Namespace) bool {
	before, known := c.namespaces[name]
	if ns == nil {
		delete(c.namespaces, name)
	} else if known && labels.Equals(before, ns.Labels) {
		return false
	} else {
		c.namespaces[name] = ns.Labels
	}
	if c.byNamespaceLabels {
		c.relations++
	}
	return c.byNamespaceLabels
}
