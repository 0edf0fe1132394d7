package devices

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/dynamic-resource-allocation/cel"
)

// compiledKept is how many CEL expressions are kept in compiled form.
const compiledKept = 256

// ID names a device.
type ID struct{ Driver, Pool, Device string }

// poolID names a pool.
type poolID struct{ driver, pool string }

// Inventory is what there is and what is in use.
type Inventory struct {
	slices  map[string]*slice // by name
	pools   map[poolID]*pool
	onNode  map[string]map[*pool]int // by node: how many slices are of it alone
	shared  map[*pool]int            // those with slices that aren't of one node
	classes map[string]*resourcev1.DeviceClass
	backing map[corev1.ResourceName]*resourcev1.DeviceClass // by the extended resource that a class stands for
	usage   usage
	cel     *cel.Cache
}

// New returns an empty inventory.
func New() *Inventory {
	return &Inventory{
		slices: map[string]*slice{}, pools: map[poolID]*pool{}, onNode: map[string]map[*pool]int{}, shared: map[*pool]int{},
		classes: map[string]*resourcev1.DeviceClass{}, backing: map[corev1.ResourceName]*resourcev1.DeviceClass{}, usage: newUsage(),
		cel: cel.NewCache(compiledKept, cel.Features{EnableConsumableCapacity: true}),
	}
}

// slice is a ResourceSlice with what was worked out of it.
type slice struct {
	api     *resourcev1.ResourceSlice // read-only
	devices []*device
	nodes   nodes // where its devices can be used, if it says so for all of them
}

// device is one of a slice.
type device struct {
	id      ID
	api     *resourcev1.Device
	slice   *slice
	pool    *pool
	nodes   nodes             // if each device has its own
	answers map[string]answer // to CEL expressions
}

func (d *device) shareable() bool {
	return d.api.AllowMultipleAllocations != nil && *d.api.AllowMultipleAllocations
}

// nodes are those that a slice or a device is for.
type nodes struct {
	name     string
	all      bool
	selector *nodeaffinity.NodeSelector
	err      error
}

func newNodes(name *string, all *bool, selector *corev1.NodeSelector) nodes {
	var n nodes
	if name != nil {
		n.name = *name
	}
	n.all = all != nil && *all
	if selector != nil && n.name == "" && !n.all {
		n.selector, n.err = nodeaffinity.NewNodeSelector(selector)
	}
	return n
}

func (n *nodes) match(node *corev1.Node) (bool, error) {
	switch {
	case n.name != "":
		return n.name == node.Name, nil
	case n.all:
		return true, nil
	case n.err != nil:
		return false, fmt.Errorf("failed to parse node selector: %w", n.err)
	case n.selector != nil:
		return n.selector.Match(node), nil
	}
	return false, nil
}

// pool is all slices of one name of a driver, of whatever generation.
type pool struct {
	id     poolID
	slices map[string]*slice
	latest *layout // nil when a slice has changed
}

// layout is a pool as its latest generation of slices tells.
type layout struct {
	generation int64
	slices     []*slice // by name; those without devices come in too
	complete   bool
	invalid    string // why it can't be used
	counters   map[string]map[string]resource.Quantity
	conditions bool // it has devices with binding conditions

	left   map[string]map[string]resource.Quantity // of the counters, when usage had the revision leftAt
	leftAt uint64
}

// SetSlice tells of a new or changed slice; nil is one that is gone.
func (inv *Inventory) SetSlice(name string, api *resourcev1.ResourceSlice) {
	if old := inv.slices[name]; old != nil {
		inv.drop(old)
	}
	if api == nil {
		return
	}
	id := poolID{api.Spec.Driver, api.Spec.Pool.Name}
	p := inv.pools[id]
	if p == nil {
		p = &pool{id: id, slices: map[string]*slice{}}
		inv.pools[id] = p
	}
	s := newSlice(api, p)
	inv.slices[name], p.slices[name], p.latest = s, s, nil
	if node := s.ofNode(); node != "" {
		if inv.onNode[node] == nil {
			inv.onNode[node] = map[*pool]int{}
		}
		inv.onNode[node][p]++
		return
	}
	inv.shared[p]++
}

func newSlice(api *resourcev1.ResourceSlice, p *pool) *slice {
	s := &slice{api: api, nodes: newNodes(api.Spec.NodeName, api.Spec.AllNodes, api.Spec.NodeSelector)}
	own := api.Spec.PerDeviceNodeSelection != nil && *api.Spec.PerDeviceNodeSelection
	for i := range api.Spec.Devices {
		d := &device{id: ID{p.id.driver, p.id.pool, api.Spec.Devices[i].Name}, api: &api.Spec.Devices[i], slice: s, pool: p}
		if own {
			d.nodes = newNodes(d.api.NodeName, d.api.AllNodes, d.api.NodeSelector)
		}
		s.devices = append(s.devices, d)
	}
	return s
}

// perDevice tells whether each device of the slice says itself where it can be used.
func (s *slice) perDevice() bool {
	return s.api.Spec.PerDeviceNodeSelection != nil && *s.api.Spec.PerDeviceNodeSelection
}

// ofNode is the node that all of the slice is of; "" if there's no such node.
func (s *slice) ofNode() string {
	if len(s.api.Spec.SharedCounters) > 0 {
		return ""
	}
	return s.nodes.name
}

func (inv *Inventory) drop(s *slice) {
	p := inv.pools[poolID{s.api.Spec.Driver, s.api.Spec.Pool.Name}]
	delete(inv.slices, s.api.Name)
	delete(p.slices, s.api.Name)
	p.latest = nil
	count := inv.shared
	if node := s.ofNode(); node != "" {
		count = inv.onNode[node]
		defer func() {
			if len(count) == 0 {
				delete(inv.onNode, node)
			}
		}()
	}
	if count[p]--; count[p] == 0 {
		delete(count, p)
	}
	if len(p.slices) == 0 {
		delete(inv.pools, p.id)
	}
}

// SetClass tells of a new or changed class; nil is one that is gone.
func (inv *Inventory) SetClass(name string, class *resourcev1.DeviceClass) {
	if class == nil {
		delete(inv.classes, name)
	} else {
		inv.classes[name] = class
	}
	inv.backing = map[corev1.ResourceName]*resourcev1.DeviceClass{}
	for _, c := range inv.classes {
		inv.backing[corev1.ResourceName(resourcev1.ResourceDeviceClassPrefix+c.Name)] = c
		if c.Spec.ExtendedResourceName == nil {
			continue
		}
		// The youngest class has a resource that several ask for, and of those the first by name.
		name := corev1.ResourceName(*c.Spec.ExtendedResourceName)
		if have := inv.backing[name]; have == nil || cmp.Or(have.CreationTimestamp.Compare(c.CreationTimestamp.Time), cmp.Compare(c.Name, have.Name)) < 0 {
			inv.backing[name] = c
		}
	}
}

// Class returns a class; nil if it isn't there.
func (inv *Inventory) Class(name string) *resourcev1.DeviceClass { return inv.classes[name] }

// Backs returns the class whose devices an extended resource stands for; nil if there's none.
func (inv *Inventory) Backs(name corev1.ResourceName) *resourcev1.DeviceClass {
	return inv.backing[name]
}

// layout works out what a pool has.
func (p *pool) layout() *layout {
	if p.latest != nil {
		return p.latest
	}
	l := &layout{counters: map[string]map[string]resource.Quantity{}}
	for _, s := range p.slices {
		l.generation = max(l.generation, s.api.Spec.Pool.Generation)
	}
	var want int64
	for _, name := range slices.Sorted(maps.Keys(p.slices)) {
		if s := p.slices[name]; s.api.Spec.Pool.Generation == l.generation {
			l.slices = append(l.slices, s)
			want = s.api.Spec.Pool.ResourceSliceCount
		}
	}
	l.complete = int64(len(l.slices)) == want
	if l.complete {
		l.invalid = l.check()
	}
	p.latest = l
	return l
}

// check reads the counters, and returns what is wrong with the pool.
func (l *layout) check() string {
	names := map[string]bool{}
	for _, s := range l.slices {
		for _, set := range s.api.Spec.SharedCounters {
			if l.counters[set.Name] != nil {
				return "duplicate counter set name " + set.Name
			}
			l.counters[set.Name] = map[string]resource.Quantity{}
			for name, c := range set.Counters {
				l.counters[set.Name][name] = c.Value
			}
		}
		for _, d := range s.devices {
			if names[d.id.Device] {
				return "duplicate device name " + d.id.Device
			}
			names[d.id.Device] = true
			l.conditions = l.conditions || d.api.BindingConditions != nil
		}
	}
	for _, s := range l.slices {
		for _, d := range s.devices {
			if wrong := l.checkCounters(d); wrong != "" {
				return wrong
			}
		}
	}
	return ""
}

func (l *layout) checkCounters(d *device) string {
	for _, consumed := range d.api.ConsumesCounters {
		set, ok := l.counters[consumed.CounterSet]
		if !ok {
			return fmt.Sprintf("counter set %s not found", consumed.CounterSet)
		}
		for name := range consumed.Counters {
			if _, ok := set[name]; !ok {
				return fmt.Sprintf("counter %s not found in counter set %s", name, consumed.CounterSet)
			}
		}
	}
	return ""
}

// offer is what a pool has for one node.
type offer struct {
	pool    *pool
	layout  *layout
	devices []*device // those of slices that are for the node
}

// usable tells whether devices may be taken.
func (o *offer) usable() bool { return o.layout.complete && o.layout.invalid == "" }

// offers lists the pools that have something for a node: by name, those that make the pod wait before it is bound last.
func (inv *Inventory) offers(node *corev1.Node) ([]*offer, error) {
	var out []*offer
	seen := map[*pool]bool{}
	for _, pools := range []map[*pool]int{inv.onNode[node.Name], inv.shared} {
		for p := range pools {
			if seen[p] {
				continue
			}
			seen[p] = true
			o, err := p.offer(node)
			if err != nil {
				return nil, err
			}
			if o != nil {
				out = append(out, o)
			}
		}
	}
	slices.SortFunc(out, func(a, b *offer) int {
		if a.layout.conditions != b.layout.conditions {
			if a.layout.conditions {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.pool.id.driver, b.pool.id.driver), cmp.Compare(a.pool.id.pool, b.pool.id.pool))
	})
	return out, nil
}

func (p *pool) offer(node *corev1.Node) (*offer, error) {
	l := p.layout()
	o := &offer{pool: p, layout: l}
	relevant := false
	for _, s := range l.slices {
		here, err := s.isFor(node)
		if err != nil {
			return nil, err
		}
		if !here {
			continue
		}
		relevant = true
		o.devices = append(o.devices, s.devices...)
	}
	if !relevant {
		return nil, nil
	}
	return o, nil
}

// isFor tells whether any device of a slice can be used on a node, or counters that they share are in it.
func (s *slice) isFor(node *corev1.Node) (bool, error) {
	if len(s.api.Spec.SharedCounters) > 0 {
		return true, nil
	}
	if !s.perDevice() {
		ok, err := s.nodes.match(node)
		if err != nil {
			err = fmt.Errorf("failed to perform node selection for slice %s: %w", s.api.Name, err)
		}
		return ok, err
	}
	for _, d := range s.devices {
		ok, err := d.nodes.match(node)
		if err != nil {
			return false, fmt.Errorf("failed to perform node selection for device %s in slice %s: %w", d.id.Device, s.api.Name, err)
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}
