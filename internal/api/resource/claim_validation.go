package resource

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

func validateClaim(s *resourcev1.ResourceClaimSpec, at *field.Path) (e check.Errors) {
	at = at.Child("devices")
	names := requestNames(s)
	d := &s.Devices
	e.Add(validateSet(d.Requests, resourcev1.DeviceRequestsMaxSize, at.Child("requests"), func(r *resourcev1.DeviceRequest) string { return r.Name }, validateRequest)...)
	e.Add(validateList(d.Constraints, resourcev1.DeviceConstraintsMaxSize, at.Child("constraints"), func(c *resourcev1.DeviceConstraint, at *field.Path) check.Errors {
		return validateConstraint(c, names, at)
	})...)
	e.Add(validateList(d.Config, resourcev1.DeviceConfigMaxSize, at.Child("config"), func(c *resourcev1.DeviceClaimConfiguration, at *field.Path) check.Errors {
		e := names.validateRefs(c.Requests, at.Child("requests"))
		e.Add(validateConfiguration(&c.DeviceConfiguration, at, false)...)
		return e
	})...)
	return e
}

// requested are the names of a claim's requests, each with those of its alternatives.
type requested map[string][]string

func requestNames(s *resourcev1.ResourceClaimSpec) requested {
	names := requested{}
	for _, r := range s.Devices.Requests {
		var alternatives []string
		for _, a := range r.FirstAvailable {
			alternatives = append(alternatives, a.Name)
		}
		names[r.Name] = alternatives
	}
	return names
}

func (r requested) has(name string) bool {
	request, alternative, two := strings.Cut(name, "/")
	alternatives, there := r[request]
	if !two {
		return there
	}
	for _, a := range alternatives {
		if a == alternative {
			return true
		}
	}
	return false
}

func (r requested) validateRefs(names []string, at *field.Path) check.Errors {
	return validateSet(names, resourcev1.DeviceRequestsMaxSize, at, itself, func(name *string, at *field.Path) check.Errors { return r.validateRef(*name, at) })
}

// validateRef requires the name of a request, or of a request and its alternative.
func (r requested) validateRef(name string, at *field.Path) (e check.Errors) {
	const unknown = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
	parts := strings.Split(name, "/")
	if len(parts) > 2 {
		e.Invalid(at, name, unknown)
		return e
	}
	for _, part := range parts {
		e.Label(at, part)
	}
	if !r.has(name) {
		e.Invalid(at, name, unknown)
	}
	return e
}

func validateRequest(r *resourcev1.DeviceRequest, at *field.Path) (e check.Errors) {
	e.Label(at.Child("name"), r.Name)
	switch {
	case r.Exactly == nil && len(r.FirstAvailable) == 0:
		e.Required(at, "exactly one of `exactly` or `firstAvailable` is required")
	case r.Exactly != nil && len(r.FirstAvailable) > 0:
		e.Invalid(at, nil, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set")
	case r.Exactly != nil:
		x := r.Exactly
		e.Add(validateWanted(wanted{x.DeviceClassName, x.Selectors, x.AllocationMode, x.Count, x.Tolerations}, at.Child("exactly"))...)
	default:
		name := func(a *resourcev1.DeviceSubRequest) string { return a.Name }
		e.Add(validateSet(r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize, at.Child("firstAvailable"), name, func(a *resourcev1.DeviceSubRequest, at *field.Path) (e check.Errors) {
			e.Label(at.Child("name"), a.Name)
			e.Add(validateWanted(wanted{a.DeviceClassName, a.Selectors, a.AllocationMode, a.Count, a.Tolerations}, at)...)
			return e
		})...)
	}
	return e
}

// wanted is what a request and an alternative of one have in common.
type wanted struct {
	class       string
	selectors   []resourcev1.DeviceSelector
	mode        resourcev1.DeviceAllocationMode
	count       int64
	tolerations []resourcev1.DeviceToleration
}

func validateWanted(w wanted, at *field.Path) (e check.Errors) {
	e.Add(validateClassName(w.class, at.Child("deviceClassName"))...)
	e.Add(validateSelectors(w.selectors, at.Child("selectors"), false)...)
	switch count := at.Child("count"); {
	case w.mode == resourcev1.DeviceAllocationModeAll && w.count != 0:
		e.Invalidf(count, w.count, "must not be specified when allocationMode is '%s'", w.mode)
	case w.mode == resourcev1.DeviceAllocationModeExactCount && w.count <= 0:
		e.Invalid(count, w.count, "must be greater than zero")
	}
	check.OneOf(&e, at.Child("allocationMode"), w.mode, resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount)
	e.Add(validateTolerations(w.tolerations, at.Child("tolerations"))...)
	return e
}

func validateConstraint(c *resourcev1.DeviceConstraint, names requested, at *field.Path) check.Errors {
	e := names.validateRefs(c.Requests, at.Child("requests"))
	switch {
	case c.MatchAttribute != nil:
		e.Add(validateFullName(*c.MatchAttribute, at.Child("matchAttribute"))...)
	case c.DistinctAttribute != nil:
		e.Add(validateFullName(*c.DistinctAttribute, at.Child("distinctAttribute"))...)
	default:
		e.Required(at, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`)
	}
	return e
}
