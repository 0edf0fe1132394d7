package devices

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// consumption returns what a request takes of a device's capacities; false if the device hasn't got what is asked for, or doesn't give such amounts.
func consumption(asked *resourcev1.CapacityRequirements, has map[resourcev1.QualifiedName]resourcev1.DeviceCapacity) (amounts, bool) {
	var requests map[resourcev1.QualifiedName]resource.Quantity
	if asked != nil {
		requests = asked.Requests
	}
	for name := range requests {
		if _, ok := has[name]; !ok {
			return nil, false
		}
	}
	out := make(amounts, len(has))
	for name, c := range has {
		amount := c.Value
		q, named := requests[name]
		switch {
		case named:
			amount = rounded(q, c.RequestPolicy)
		case c.RequestPolicy != nil && c.RequestPolicy.Default != nil:
			amount = *c.RequestPolicy.Default
		}
		if !allowed(amount, c.RequestPolicy) {
			return nil, false
		}
		out[name] = amount.DeepCopy()
	}
	return out, true
}

// rounded brings a request up to the next amount that a policy allows.
func rounded(q resource.Quantity, p *resourcev1.CapacityRequestPolicy) resource.Quantity {
	switch {
	case p == nil:
		return q
	case p.ValidRange != nil && p.ValidRange.Min != nil:
		low := p.ValidRange.Min
		if q.Cmp(*low) < 0 {
			return *low
		}
		if p.ValidRange.Step == nil {
			return q
		}
		step := p.ValidRange.Step.Value()
		steps := (q.Value() - low.Value() + step - 1) / step
		return *resource.NewQuantity(low.Value()+step*steps, resource.BinarySI)
	}
	for _, v := range p.ValidValues {
		if q.Cmp(v) <= 0 {
			return v
		}
	}
	return q
}

// allowed tells whether a policy lets an amount be taken.
func allowed(q resource.Quantity, p *resourcev1.CapacityRequestPolicy) bool {
	if p == nil || p.Default != nil && q.Cmp(*p.Default) == 0 {
		return true
	}
	if r := p.ValidRange; r != nil {
		if r.Max != nil && q.Cmp(*r.Max) > 0 {
			return false
		}
		var low int64
		if r.Min != nil {
			low = r.Min.Value()
		}
		return r.Step == nil || (q.Value()-low)%r.Step.Value() == 0
	}
	for _, v := range p.ValidValues {
		if q.Cmp(v) == 0 {
			return true
		}
	}
	return len(p.ValidValues) == 0
}

// fits tells whether a device's capacities suffice for more on top of what is taken.
func fits(has map[resourcev1.QualifiedName]resourcev1.DeviceCapacity, more amounts, taken ...amounts) bool {
	for name, c := range has {
		sum := more[name]
		sum = sum.DeepCopy()
		for _, t := range taken {
			sum.Add(t[name])
		}
		if sum.Cmp(c.Value) > 0 {
			return false
		}
	}
	return true
}
