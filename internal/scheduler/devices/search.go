package devices

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// Errors of On that speak of the node alone.
var (
	// ErrNode is why a node can't be judged: upstream's words follow.
	ErrNode = errors.New("allocation failed on node")
	// errTooMany ends a branch in which a claim would get more devices than it may have.
	errTooMany = errors.New("more devices than a claim may have")
)

// stepsAtMost bounds a search: constraints can make it long, and other pods wait.
const stepsAtMost = 1 << 20

// search looks for devices for the claims of a question on one node. It takes one device after the other and goes back where that leads nowhere.
type search struct {
	*Question
	node    *corev1.Node
	offers  []*offer
	devices []*device // of all usable offers, in order
	steps   int

	constraints [][]*constraint // by claim
	picked      [][]*pick       // by claim
	chosen      map[*request]*option
	exclusive   map[*device]map[int]bool // taken in this search, by claim
	shared      map[*device]amounts
	consumed    map[*pool]map[string]map[string]resource.Quantity
}

// pick is a device for a request.
type pick struct {
	option *option
	device *device
	share  *types.UID
	taken  amounts
}

// On returns what each claim would get on a node, nil if the node can't satisfy them.
func (q *Question) On(node *corev1.Node) ([]resourcev1.AllocationResult, error) {
	offers, err := q.inv.offers(node)
	if err != nil {
		return nil, fmt.Errorf("gather pool information: %w", err)
	}
	s := &search{
		Question: q, node: node, offers: offers, constraints: make([][]*constraint, len(q.claims)), picked: make([][]*pick, len(q.claims)),
		chosen: map[*request]*option{}, exclusive: map[*device]map[int]bool{}, shared: map[*device]amounts{},
		consumed: map[*pool]map[string]map[string]resource.Quantity{},
	}
	invalid := false
	for _, o := range offers {
		invalid = invalid || o.layout.invalid != ""
		if o.usable() {
			s.devices = append(s.devices, o.devices...)
		}
	}
	for i, w := range q.claims {
		for _, c := range w.constraints {
			constraint := &constraint{requests: c.Requests}
			if c.MatchAttribute != nil {
				constraint.attribute = *c.MatchAttribute
			} else {
				constraint.attribute, constraint.distinct = *c.DistinctAttribute, true
			}
			s.constraints[i] = append(s.constraints[i], constraint)
		}
	}
	found, err := s.claim(0)
	switch {
	case errors.Is(err, errTooMany):
		return nil, nil
	case err != nil:
		return nil, err
	case !found && invalid:
		return nil, fmt.Errorf("invalid resource pools were encountered%w", errSilent)
	case !found:
		return nil, nil
	}
	return s.results()
}

// errSilent marks an error without adding words to it.
var errSilent = silent{}

type silent struct{}

func (silent) Error() string        { return "" }
func (silent) Is(target error) bool { return target == ErrNode }

// claim satisfies the claims from the c-th on.
func (s *search) claim(c int) (bool, error) {
	if c == len(s.claims) {
		return true, nil
	}
	return s.request(c, 0)
}

// request satisfies the requests of the c-th claim from the r-th on, and then the further claims.
func (s *search) request(c, r int) (bool, error) {
	if r == len(s.claims[c].requests) {
		found, err := s.claim(c + 1)
		if errors.Is(err, errTooMany) {
			return false, nil
		}
		return found, err
	}
	want := s.claims[c].requests[r]
	tooMany := len(want.options) > 0
	for _, o := range want.options {
		s.chosen[want] = o
		found, err := s.option(c, r, o)
		if errors.Is(err, errTooMany) {
			continue
		}
		if found || err != nil {
			return found, err
		}
		tooMany = false
	}
	if tooMany {
		return false, errTooMany
	}
	return false, nil
}

func (s *search) option(c, r int, o *option) (bool, error) {
	if o.mode == resourcev1.DeviceAllocationModeAll {
		all, err := s.all(c, o)
		if err != nil || len(all) == 0 {
			return false, err
		}
		if len(s.picked[c])+len(all) > resourcev1.AllocationResultsMaxSize {
			return false, errTooMany
		}
		return s.every(c, r, o, all)
	}
	if len(s.picked[c])+o.count > resourcev1.AllocationResultsMaxSize {
		return false, errTooMany
	}
	return s.some(c, r, o, o.count, 0)
}

// all lists every device that an option selects.
func (s *search) all(c int, o *option) ([]*device, error) {
	var out []*device
	for _, offer := range s.offers {
		claim := s.claims[c].api
		switch {
		case !offer.layout.complete:
			return nil, fmt.Errorf("claim %s/%s, request %s: asks for all devices, but resource pool %s/%s is currently being updated",
				claim.Namespace, claim.Name, o.parent, offer.pool.id.driver, offer.pool.id.pool)
		case offer.layout.invalid != "":
			return nil, fmt.Errorf("claim %s/%s, request %s: asks for all devices, but resource pool %s/%s is currently invalid",
				claim.Namespace, claim.Name, o.parent, offer.pool.id.driver, offer.pool.id.pool)
		}
		for _, d := range offer.devices {
			ok, err := s.suits(c, o, d)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// suits tells whether a device is one that an option asks for, in use or not.
func (s *search) suits(c int, o *option, d *device) (bool, error) {
	ok, err := s.inv.selects(s.claims[c].api, o, d)
	if err != nil || !ok {
		return false, err
	}
	if d.slice.perDevice() {
		if ok, err := d.nodes.match(s.node); err != nil || !ok {
			return false, err
		}
	}
	_, ok = s.amounts(o, d)
	return ok, nil
}

// amounts returns what an option takes of a device; false if there isn't enough left.
func (s *search) amounts(o *option, d *device) (amounts, bool) {
	if len(d.api.Capacity) == 0 && o.capacity == nil {
		return nil, true
	}
	more, ok := consumption(o.capacity, d.api.Capacity)
	if !ok {
		return nil, false
	}
	var taken amounts
	if sharing := s.inv.usage.shared[d.id]; sharing != nil {
		taken = sharing.taken
	}
	return more, fits(d.api.Capacity, more, taken, s.shared[d])
}

// every takes all of the devices.
func (s *search) every(c, r int, o *option, devices []*device) (bool, error) {
	if len(devices) == 0 {
		return s.request(c, r+1)
	}
	undo := s.take(c, o, devices[0])
	if undo == nil {
		return false, nil
	}
	found, err := s.every(c, r, o, devices[1:])
	if !found {
		undo()
	}
	return found, err
}

// some takes n devices of those from a position on.
func (s *search) some(c, r int, o *option, n, from int) (bool, error) {
	if n == 0 {
		return s.request(c, r+1)
	}
	for i := from; i+n <= len(s.devices) || i < len(s.devices) && s.devices[i].shareable(); i++ {
		if s.steps++; s.steps > stepsAtMost {
			return false, fmt.Errorf("node %s: timed out trying to allocate devices%w", s.node.Name, errSilent)
		}
		d := s.devices[i]
		if !o.admin && (s.inv.usage.exclusive[d.id] > 0 || len(s.exclusive[d]) > 0) {
			continue
		}
		ok, err := s.suits(c, o, d)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		undo := s.take(c, o, d)
		if undo == nil {
			continue
		}
		found, err := s.some(c, r, o, n-1, i+1)
		if found {
			return true, nil
		}
		undo()
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// take gives a device to a claim and returns how to take it back; nil if it can't have it.
func (s *search) take(c int, o *option, d *device) (undo func()) {
	shareable := d.shareable()
	switch {
	case o.admin && !shareable && s.exclusive[d][c]:
		return nil // It has it already.
	case !o.admin && (s.inv.usage.exclusive[d.id] > 0 || len(s.exclusive[d]) > 0):
		return nil
	case !o.tolerates(d):
		return nil
	}
	more, ok := s.amounts(o, d)
	if !ok {
		return nil
	}
	counted := len(d.api.ConsumesCounters) > 0 && (!shareable || s.inv.usage.shared[d.id] == nil && s.shared[d] == nil)
	if counted && !s.reserveCounters(d) {
		return nil
	}
	constrained, ok := s.constrain(c, o, d)
	if !ok {
		if counted {
			consume(s.consumed[d.pool], d, -1)
		}
		return nil
	}
	p := &pick{option: o, device: d}
	fresh := false
	if shareable {
		id := uuid.NewUUID()
		p.share, p.taken = &id, more
		if fresh = s.shared[d] == nil; fresh {
			s.shared[d] = amounts{}
		}
		s.shared[d].add(more)
	} else {
		if s.exclusive[d] == nil {
			s.exclusive[d] = map[int]bool{}
		}
		s.exclusive[d][c] = true
	}
	s.picked[c] = append(s.picked[c], p)
	return func() {
		s.picked[c] = s.picked[c][:len(s.picked[c])-1]
		switch {
		case fresh:
			delete(s.shared, d)
		case shareable:
			s.shared[d].sub(more)
		default:
			delete(s.exclusive[d], c)
		}
		for _, constraint := range constrained {
			constraint.remove()
		}
		if counted {
			consume(s.consumed[d.pool], d, -1)
		}
	}
}

// constrain adds a device to the claim's constraints; false if one doesn't let it in.
func (s *search) constrain(c int, o *option, d *device) (added []*constraint, ok bool) {
	for _, constraint := range s.constraints[c] {
		if !constraint.concerns(o) {
			continue
		}
		if !constraint.add(d) {
			for _, a := range added {
				a.remove()
			}
			return nil, false
		}
		added = append(added, constraint)
	}
	return added, true
}

// reserveCounters takes what a device consumes of its pool's counters; false if there isn't enough left.
func (s *search) reserveCounters(d *device) bool {
	left := s.inv.counters(d.pool.layout())
	used := s.consumed[d.pool]
	if used == nil {
		used = map[string]map[string]resource.Quantity{}
		s.consumed[d.pool] = used
	}
	consume(used, d, 1)
	for _, c := range d.api.ConsumesCounters {
		for name := range c.Counters {
			available := left[c.CounterSet][name]
			if available.Cmp(used[c.CounterSet][name]) < 0 {
				consume(used, d, -1)
				return false
			}
		}
	}
	return true
}
