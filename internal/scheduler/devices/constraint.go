package devices

import (
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
)

// constraint is what devices of a claim must have in common, or must not.
type constraint struct {
	requests  []string // none is all
	attribute resourcev1.FullyQualifiedName
	distinct  bool
	values    []*resourcev1.DeviceAttribute // of the devices taken so far, in order
}

// concerns tells whether a request's devices are subject to the constraint.
func (c *constraint) concerns(o *option) bool {
	return len(c.requests) == 0 || slices.Contains(c.requests, o.parent) || slices.Contains(c.requests, o.ref)
}

// add takes in a further device; false if it can't be one.
func (c *constraint) add(d *device) bool {
	value := attributeOf(d, c.attribute)
	if value == nil {
		return false
	}
	if c.distinct {
		for _, have := range c.values {
			if sameValue(have, value) {
				return false
			}
		}
	} else if len(c.values) > 0 && !sameValue(c.values[0], value) {
		return false
	}
	c.values = append(c.values, value)
	return true
}

// remove takes the last device out again.
func (c *constraint) remove() { c.values = c.values[:len(c.values)-1] }

// attributeOf finds an attribute by its full name; the driver's own may lack the driver's name.
func attributeOf(d *device, name resourcev1.FullyQualifiedName) *resourcev1.DeviceAttribute {
	if a, ok := d.api.Attributes[resourcev1.QualifiedName(name)]; ok {
		return &a
	}
	domain, id, ok := strings.Cut(string(name), "/")
	if !ok || domain != d.id.Driver {
		return nil
	}
	if a, ok := d.api.Attributes[resourcev1.QualifiedName(id)]; ok {
		return &a
	}
	return nil
}

func sameValue(a, b *resourcev1.DeviceAttribute) bool {
	return equal(a.StringValue, b.StringValue) || equal(a.IntValue, b.IntValue) || equal(a.BoolValue, b.BoolValue) || equal(a.VersionValue, b.VersionValue)
}

func equal[T comparable](a, b *T) bool { return a != nil && b != nil && *a == *b }
