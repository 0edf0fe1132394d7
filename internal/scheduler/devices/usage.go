package devices

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// amounts are by the name of a capacity.
type amounts map[resourcev1.QualifiedName]resource.Quantity

func (a amounts) add(more amounts) {
	for name, q := range more {
		have := a[name]
		have = have.DeepCopy()
		have.Add(q)
		a[name] = have
	}
}

func (a amounts) sub(less amounts) {
	for name, q := range less {
		have := a[name]
		have = have.DeepCopy()
		have.Sub(q)
		a[name] = have
	}
}

// usage is which devices claims have, in the API or as was decided a moment ago.
type usage struct {
	claims    map[string]*use // by namespace/name
	exclusive map[ID]int      // how many have it alone: 1, or more if somebody erred
	shared    map[ID]*sharing
	revision  uint64
}

// use is one claim's.
type use struct {
	api     *resourcev1.ResourceClaim
	assumed *resourcev1.ResourceClaim // until the API tells the same
	counted *resourcev1.AllocationResult
}

// sharing is what is taken of a device that several have.
type sharing struct {
	users int
	taken amounts
}

func newUsage() usage {
	return usage{claims: map[string]*use{}, exclusive: map[ID]int{}, shared: map[ID]*sharing{}}
}

// SetClaim tells of a new or changed claim; nil is one that is gone. It returns whether devices became free.
func (inv *Inventory) SetClaim(key string, claim *resourcev1.ResourceClaim) (freed bool) {
	u := inv.usage.claims[key]
	if u == nil {
		if claim == nil {
			return false
		}
		u = &use{}
		inv.usage.claims[key] = u
	}
	before := u.counted
	if claim == nil || u.assumed != nil && (claim.UID != u.assumed.UID || claim.Status.Allocation != nil) {
		u.assumed = nil
	}
	u.api = claim
	inv.usage.recount(u)
	if claim == nil {
		delete(inv.usage.claims, key)
	}
	return before != nil && u.counted == nil
}

// Claim returns a claim as the API has it; nil if it isn't there.
func (inv *Inventory) Claim(key string) *resourcev1.ResourceClaim {
	if u := inv.usage.claims[key]; u != nil {
		return u.api
	}
	return nil
}

// Claims calls do for each claim until it returns false.
func (inv *Inventory) Claims(do func(*resourcev1.ResourceClaim) bool) {
	for _, u := range inv.usage.claims {
		if u.api != nil && !do(u.api) {
			return
		}
	}
}

// Pending tells whether a claim has been given devices and the API doesn't say so yet.
func (inv *Inventory) Pending(key string) bool {
	u := inv.usage.claims[key]
	return u != nil && u.assumed != nil
}

// Assume takes an allocated claim as written, until the API tells of it. It returns how to take that back.
func (inv *Inventory) Assume(key string, claim *resourcev1.ResourceClaim) (revert func()) {
	u := inv.usage.claims[key]
	if u == nil {
		u = &use{}
		inv.usage.claims[key] = u
	}
	u.assumed = claim
	inv.usage.recount(u)
	return func() {
		if u.assumed != claim || inv.usage.claims[key] != u {
			return
		}
		u.assumed = nil
		inv.usage.recount(u)
		if u.api == nil {
			delete(inv.usage.claims, key)
		}
	}
}

// recount brings the counts up to date with a claim.
func (u *usage) recount(c *use) {
	var now *resourcev1.AllocationResult
	switch {
	case c.assumed != nil:
		now = c.assumed.Status.Allocation
	case c.api != nil:
		now = c.api.Status.Allocation
	}
	if now == c.counted {
		return
	}
	u.count(c.counted, -1)
	u.count(now, 1)
	c.counted = now
	u.revision++
}

func (u *usage) count(a *resourcev1.AllocationResult, sign int) {
	if a == nil {
		return
	}
	for i := range a.Devices.Results {
		r := &a.Devices.Results[i]
		if r.AdminAccess != nil && *r.AdminAccess {
			continue // It only looks on.
		}
		id := ID{r.Driver, r.Pool, r.Device}
		if r.ShareID == nil {
			if u.exclusive[id] += sign; u.exclusive[id] == 0 {
				delete(u.exclusive, id)
			}
			continue
		}
		s := u.shared[id]
		if s == nil {
			s = &sharing{taken: amounts{}}
			u.shared[id] = s
		}
		s.users += sign
		if sign > 0 {
			s.taken.add(r.ConsumedCapacity)
		} else {
			s.taken.sub(r.ConsumedCapacity)
		}
		if s.users == 0 {
			delete(u.shared, id)
		}
	}
}

func (u *usage) taken(id ID) bool { return u.exclusive[id] > 0 || u.shared[id] != nil }

// counters returns what allocated devices leave of a pool's counters.
func (inv *Inventory) counters(l *layout) map[string]map[string]resource.Quantity {
	if l.left != nil && l.leftAt == inv.usage.revision {
		return l.left
	}
	left := make(map[string]map[string]resource.Quantity, len(l.counters))
	for set, counters := range l.counters {
		left[set] = make(map[string]resource.Quantity, len(counters))
		for name, q := range counters {
			left[set][name] = q.DeepCopy()
		}
	}
	for _, s := range l.slices {
		for _, d := range s.devices {
			if len(d.api.ConsumesCounters) > 0 && inv.usage.taken(d.id) {
				consume(left, d, -1)
			}
		}
	}
	l.left, l.leftAt = left, inv.usage.revision
	return left
}

// consume adds what a device consumes, sign times.
func consume(to map[string]map[string]resource.Quantity, d *device, sign int) {
	for _, c := range d.api.ConsumesCounters {
		set := to[c.CounterSet]
		if set == nil {
			set = map[string]resource.Quantity{}
			to[c.CounterSet] = set
		}
		for name, counter := range c.Counters {
			q := set[name]
			q = q.DeepCopy()
			if sign > 0 {
				q.Add(counter.Value)
			} else {
				q.Sub(counter.Value)
			}
			set[name] = q
		}
	}
}
