package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// maxValidValues is how many values a policy may list.
const maxValidValues = 10

// validatePolicy checks what may be asked of a capacity that is shared: one of some values, or a range.
func validatePolicy(capacity resource.Quantity, p *resourcev1.CapacityRequestPolicy, at *field.Path) (e check.Errors) {
	values, span := len(p.ValidValues) > 0, p.ValidRange != nil
	switch {
	case values && span:
		e.Forbidden(at, `exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time`)
	case values && p.Default == nil:
		e.Required(at.Child("default"), "required when validValues is defined")
	case values:
		return validateValues(capacity, p, at.Child("validValues"))
	case span && p.Default == nil:
		e.Required(at.Child("default"), "required when validRange is defined")
	case span:
		return validateRange(capacity, *p.Default, p.ValidRange, at.Child("validRange"))
	}
	return e
}

func validateValues(capacity resource.Quantity, p *resourcev1.CapacityRequestPolicy, at *field.Path) (e check.Errors) {
	found := false
	for i, v := range p.ValidValues {
		if i > 0 && p.ValidValues[i-1].Cmp(v) > 0 {
			e.Invalid(at.Index(i), v.String(), "values must be sorted in ascending order")
		}
		found = found || v.Cmp(*p.Default) == 0
	}
	key := func(q *resource.Quantity) int64 { return q.Value() }
	e.Add(validateSet(p.ValidValues, maxValidValues, at, key, func(q *resource.Quantity, at *field.Path) (e check.Errors) {
		if q.Cmp(capacity) > 0 {
			e.Invalidf(at, q.String(), "option is larger than capacity value: %s", capacity.String())
		}
		return e
	})...)
	if !found {
		e.Invalid(at, p.Default.String(), "default value is not valid according to the requestPolicy")
	}
	return e
}

func validateRange(capacity, standard resource.Quantity, r *resourcev1.CapacityRequestPolicyRange, at *field.Path) (e check.Errors) {
	low, high := at.Child("min"), at.Child("max")
	if r.Min == nil {
		e.Required(low, "required when validRange is defined")
		return e
	}
	if r.Min.Cmp(capacity) > 0 {
		e.Invalidf(low, r.Min.String(), "min is larger than capacity value: %s", capacity.String())
	}
	if standard.Cmp(*r.Min) < 0 {
		e.Invalidf(low, standard.String(), "default is less than min: %s", r.Min.String())
	}
	if r.Max != nil {
		if r.Min.Cmp(*r.Max) > 0 {
			e.Invalidf(high, r.Min.String(), "min is larger than max: %s", r.Max.String())
		}
		if r.Max.Cmp(capacity) > 0 {
			e.Invalidf(high, r.Max.String(), "max is larger than capacity value: %s", capacity.String())
		}
		if standard.Cmp(*r.Max) > 0 {
			e.Invalidf(high, standard.String(), "default is more than max: %s", r.Max.String())
		}
	}
	if r.Step != nil {
		e.Add(validateStep(capacity, standard, r, at.Child("step"))...)
	}
	return e
}

func validateStep(capacity, standard resource.Quantity, r *resourcev1.CapacityRequestPolicyRange, at *field.Path) (e check.Errors) {
	first := r.Min.DeepCopy()
	first.Add(*r.Step)
	if first.Cmp(capacity) > 0 {
		e.Invalidf(at, r.Step.String(), "one step %s is larger than capacity value: %s", first.String(), capacity.String())
	}
	if r.Step.Value() == 0 {
		e.Invalid(at, r.Step.String(), "must be greater than zero")
		return e
	}
	whole := func(q resource.Quantity) {
		if (q.Value()-r.Min.Value())%r.Step.Value() != 0 {
			e.Invalidf(at, q.String(), "value is not a multiple of a given step (%s) from (%s)", r.Step.String(), r.Min.String())
		}
	}
	whole(standard)
	if r.Max != nil {
		whole(*r.Max)
	}
	return e
}
