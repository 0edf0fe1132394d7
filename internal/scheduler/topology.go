package scheduler

import "slices"

// topology numbers the values of one node label, its domains: a column over nodes.
type topology struct {
	key   string
	of    []int32 // by slot: the node's domain; noDomain if it lacks the label
	ids   map[string]int32
	names []string // by domain
	sizes []int32  // by domain: how many nodes it has
	free  []int32  // domains without nodes, to be given anew
	users int
}

const noDomain = -1

// topology returns the column of a label, which it makes if need be. Whoever asks becomes a user, until dropTopology.
func (c *cluster) topology(key string) *topology {
	t, ok := c.topologies[key]
	if !ok {
		t = &topology{key: key, ids: map[string]int32{}, of: make([]int32, len(c.nodes))}
		for slot, n := range c.nodes {
			t.of[slot] = noDomain
			if n != nil {
				t.join(c, slot)
			}
		}
		c.topologies[key] = t
	}
	t.users++
	return t
}

func (c *cluster) dropTopology(t *topology) {
	if t.users--; t.users == 0 {
		delete(c.topologies, t.key)
	}
}

// join puts a node that is in no domain into the one that its label names.
func (t *topology) join(c *cluster, slot int) {
	value, ok := c.nodes[slot].api.Labels[t.key]
	if !ok {
		return
	}
	id, known := t.ids[value]
	if !known {
		id = t.newDomain(value)
	}
	t.of[slot] = id
	t.sizes[id]++
	if t.sizes[id] == 2 {
		t.touch(c, id) // What was kept for the only node now holds for a domain.
	}
}

func (t *topology) newDomain(value string) int32 {
	id := int32(len(t.sizes))
	if last := len(t.free) - 1; last >= 0 {
		id, t.free = t.free[last], t.free[:last]
		t.names[id] = value
	} else {
		t.sizes, t.names = append(t.sizes, 0), append(t.names, value)
	}
	t.ids[value] = id
	return id
}

// leave takes a node out of its domain.
func (t *topology) leave(c *cluster, slot int) {
	id := t.of[slot]
	if id == noDomain {
		return
	}
	t.of[slot] = noDomain
	t.sizes[id]--
	switch t.sizes[id] {
	case 0:
		delete(t.ids, t.names[id])
		t.free = append(t.free, id)
	case 1:
		t.touch(c, id)
	}
}

// touch has the classes look again at a domain's nodes.
func (t *topology) touch(c *cluster, id int32) {
	for slot, of := range t.of {
		if of == id {
			c.changes.add(slot)
		}
	}
}

// tally counts pods of one sort: on each node, and in each domain of a topology. It's kept by every event.
type tally struct {
	topology *topology
	// matches tells whether a pod counts. It depends on nothing that changes. Nil where pods are added by hand.
	matches func(p *podInfo) bool
	// namespaces that counted pods are in; nil is any.
	namespaces []string
	// eligible tells whether a node belongs to the domains counted; nil is every node.
	eligible func(slot int) bool

	bySlot  []int64
	entered []bool // by slot: it counts in its domain
	domains []int64
	nodes   []int32 // by domain: how many nodes entered
	present int     // domains with such nodes
	total   int64   // in all domains
	levels  []int32 // by count: how many present domains have it
	low     int     // no level below has any
}

// newTally begins to count; dropTally ends it.
func (c *cluster) newTally(t *tally, key string) *tally {
	t.topology = c.topology(key)
	t.grow(len(c.nodes))
	for slot, n := range c.nodes {
		if n == nil {
			continue
		}
		t.enter(slot)
		if t.matches == nil {
			continue
		}
		for _, p := range n.pods {
			if t.wants(p) {
				t.add(slot, 1)
			}
		}
	}
	c.allTallies[t] = true
	if t.matches == nil {
		return t
	}
	for _, ns := range t.listens() {
		c.tallies[ns] = append(c.tallies[ns], t)
	}
	return t
}

// anyNamespace is where tallies over all namespaces are listed.
const anyNamespace = ""

func (t *tally) listens() []string {
	if t.namespaces == nil {
		return []string{anyNamespace}
	}
	return t.namespaces
}

func (t *tally) wants(p *podInfo) bool {
	return (t.namespaces == nil || slices.Contains(t.namespaces, p.pod.Namespace)) && t.matches(p)
}

func (c *cluster) dropTally(t *tally) {
	delete(c.allTallies, t)
	c.dropTopology(t.topology)
	if t.matches == nil {
		return
	}
	for _, ns := range t.listens() {
		kept := slices.DeleteFunc(c.tallies[ns], func(o *tally) bool { return o == t })
		if len(kept) == 0 {
			delete(c.tallies, ns)
			continue
		}
		c.tallies[ns] = kept
	}
}

func (t *tally) grow(n int) {
	for len(t.bySlot) < n {
		t.bySlot, t.entered = append(t.bySlot, 0), append(t.entered, false)
	}
}

// add counts delta more pods on a node.
func (t *tally) add(slot int, delta int64) {
	t.bySlot[slot] += delta
	if t.entered[slot] {
		t.shift(t.topology.of[slot], delta)
	}
}

// enter makes a node's pods count in its domain.
func (t *tally) enter(slot int) {
	id := t.topology.of[slot]
	if t.entered[slot] || id == noDomain || t.eligible != nil && !t.eligible(slot) {
		return
	}
	for int(id) >= len(t.domains) {
		t.domains, t.nodes = append(t.domains, 0), append(t.nodes, 0)
	}
	t.entered[slot] = true
	if t.nodes[id]++; t.nodes[id] == 1 {
		t.present++
		t.level(t.domains[id], 1)
	}
	t.shift(id, t.bySlot[slot])
}

// leave is the opposite of enter.
func (t *tally) leave(slot int) {
	if !t.entered[slot] {
		return
	}
	t.entered[slot] = false
	id := t.topology.of[slot]
	t.shift(id, -t.bySlot[slot])
	if t.nodes[id]--; t.nodes[id] == 0 {
		t.present--
		t.level(t.domains[id], -1)
	}
}

func (t *tally) shift(id int32, delta int64) {
	if delta == 0 {
		return
	}
	t.level(t.domains[id], -1)
	t.domains[id] += delta
	t.level(t.domains[id], 1)
	t.total += delta
}

func (t *tally) level(count int64, delta int32) {
	for int(count) >= len(t.levels) {
		t.levels = append(t.levels, 0)
	}
	t.levels[count] += delta
	if delta > 0 {
		t.low = min(t.low, int(count))
	}
}

// least is the smallest count of a present domain; 0 if there is none.
func (t *tally) least() int64 {
	if t.present == 0 {
		return 0
	}
	for t.levels[t.low] == 0 {
		t.low++
	}
	return int64(t.low)
}

// in returns the count in the domain of a node; false if the node is in no domain.
func (t *tally) in(slot int) (int64, bool) {
	id := t.topology.of[slot]
	if id == noDomain {
		return 0, false
	}
	if int(id) >= len(t.domains) {
		return 0, true
	}
	return t.domains[id], true
}

// coordinate is equal for two nodes only if in answers alike for both, whatever happens to other nodes. Where a node is alone in
// its domain it is the count itself, so that nodes with equal counts need not be told apart.
func (t *tally) coordinate(slot int) int64 {
	id := t.topology.of[slot]
	if id == noDomain {
		return -1
	}
	if t.alone(slot) {
		count, _ := t.in(slot)
		return -2 - count
	}
	return int64(id)
}

// alone tells whether a node, which is in a domain, is the only one there.
func (t *tally) alone(slot int) bool { return t.topology.sizes[t.topology.of[slot]] == 1 }

// countPod adds a pod on a node to the tallies, or takes it away.
func (c *cluster) countPod(slot int, p *podInfo, sign int64) {
	for _, ns := range [2]string{p.pod.Namespace, anyNamespace} {
		for _, t := range c.tallies[ns] {
			if t.matches(p) {
				t.add(slot, sign)
			}
		}
	}
	for _, term := range p.terms {
		term.carriers.add(slot, sign)
	}
}

// regroup puts a node into the domains of its present labels, or out of all when it goes.
func (c *cluster) regroup(slot int, gone bool) {
	for t := range c.allTallies {
		t.leave(slot)
	}
	for _, t := range c.topologies {
		t.leave(c, slot)
		if !gone {
			t.join(c, slot)
		}
	}
	if gone {
		return
	}
	for t := range c.allTallies {
		t.enter(slot)
	}
}
