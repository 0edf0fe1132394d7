package devices

import (
	"context"
	"errors"
	"fmt"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// Question is what claims ask for, whatever the node.
type Question struct {
	inv    *Inventory
	claims []*wanted
}

// wanted is one claim.
type wanted struct {
	api         *resourcev1.ResourceClaim
	requests    []*request
	constraints []resourcev1.DeviceConstraint
}

// request is one of its requests, with the alternatives that will do: the first that can be had is taken.
type request struct {
	options []*option
}

// option is a way to satisfy a request.
type option struct {
	parent      string // the request
	ref         string // how results name it: request, or request/subrequest
	class       *resourcev1.DeviceClass
	selectors   []resourcev1.DeviceSelector
	mode        resourcev1.DeviceAllocationMode
	count       int
	admin       bool
	tolerations []resourcev1.DeviceToleration
	capacity    *resourcev1.CapacityRequirements
}

// Ask prepares a search for devices for claims.
func (inv *Inventory) Ask(claims []*resourcev1.ResourceClaim) (*Question, error) {
	q := &Question{inv: inv}
	for _, claim := range claims {
		w := &wanted{api: claim, constraints: claim.Spec.Devices.Constraints}
		for i := range claim.Spec.Devices.Requests {
			r, err := inv.request(claim, &claim.Spec.Devices.Requests[i])
			if err != nil {
				return nil, err
			}
			w.requests = append(w.requests, r)
		}
		for i, c := range w.constraints {
			if c.MatchAttribute == nil && c.DistinctAttribute == nil {
				return nil, fmt.Errorf("claim %s/%s, constraint #%d: empty constraint (unsupported constraint type?)", claim.Namespace, claim.Name, i)
			}
		}
		q.claims = append(q.claims, w)
	}
	return q, nil
}

func (inv *Inventory) request(claim *resourcev1.ResourceClaim, r *resourcev1.DeviceRequest) (*request, error) {
	out := &request{}
	if e := r.Exactly; e != nil {
		out.options = []*option{{
			parent: r.Name, ref: r.Name, class: inv.classes[e.DeviceClassName], selectors: e.Selectors, mode: e.AllocationMode, count: int(e.Count),
			admin: e.AdminAccess != nil && *e.AdminAccess, tolerations: e.Tolerations, capacity: e.Capacity,
		}}
	}
	for i := range r.FirstAvailable {
		s := &r.FirstAvailable[i]
		out.options = append(out.options, &option{
			parent: r.Name, ref: resourceclaim.CreateSubRequestRef(r.Name, s.Name), class: inv.classes[s.DeviceClassName], selectors: s.Selectors,
			mode: s.AllocationMode, count: int(s.Count), tolerations: s.Tolerations, capacity: s.Capacity,
		})
	}
	for _, o := range out.options {
		for i, s := range o.selectors {
			if s.CEL == nil {
				return nil, fmt.Errorf("claim %s/%s, request %s, selector #%d: CEL expression empty (unsupported selector type?)", claim.Namespace, claim.Name, r.Name, i)
			}
		}
		if o.class == nil {
			return nil, fmt.Errorf("claim %s/%s, request %s: could not retrieve device class", claim.Namespace, claim.Name, r.Name)
		}
	}
	return out, nil
}

// answer is what a device says to an expression.
type answer struct {
	yes bool
	err error
}

// answersKept bounds what is kept with a device.
const answersKept = 128

// ask evaluates an expression for a device, once.
func (inv *Inventory) ask(d *device, expression string) answer {
	if a, ok := d.answers[expression]; ok {
		return a
	}
	a := inv.evaluate(d, expression)
	if d.answers == nil || len(d.answers) >= answersKept {
		d.answers = map[string]answer{}
	}
	d.answers[expression] = a
	return a
}

func (inv *Inventory) evaluate(d *device, expression string) answer {
	compiled := inv.cel.GetOrCompile(expression)
	if compiled.Error != nil {
		return answer{err: fmt.Errorf("CEL compile error: %w", errors.New(compiled.Error.Error()))}
	}
	yes, _, err := compiled.DeviceMatches(context.Background(), cel.Device{
		Driver: d.id.Driver, AllowMultipleAllocations: d.api.AllowMultipleAllocations, Attributes: d.api.Attributes, Capacity: d.api.Capacity,
	})
	if err != nil {
		return answer{err: fmt.Errorf("CEL runtime error: %w", err)}
	}
	return answer{yes: yes}
}

// selects tells whether the selectors of an option and of its class accept a device.
func (inv *Inventory) selects(claim *resourcev1.ResourceClaim, o *option, d *device) (bool, error) {
	for i, s := range o.class.Spec.Selectors {
		if a := inv.ask(d, s.CEL.Expression); a.err != nil {
			return false, fmt.Errorf("class %s: selector #%d: %w", o.class.Name, i, a.err)
		} else if !a.yes {
			return false, nil
		}
	}
	for i, s := range o.selectors {
		if a := inv.ask(d, s.CEL.Expression); a.err != nil {
			return false, fmt.Errorf("claim %s/%s: selector #%d: %w", claim.Namespace, claim.Name, i, a.err)
		} else if !a.yes {
			return false, nil
		}
	}
	return true, nil
}

// tolerated tells whether an option takes a device with its taints.
func (o *option) tolerates(d *device) bool {
	for _, t := range d.api.Taints {
		if t.Effect != resourcev1.DeviceTaintEffectNoExecute && t.Effect != resourcev1.DeviceTaintEffectNoSchedule {
			continue
		}
		ok := false
		for _, toleration := range o.tolerations {
			ok = ok || resourceclaim.ToleratesTaint(toleration, t)
		}
		if !ok {
			return false
		}
	}
	return true
}
