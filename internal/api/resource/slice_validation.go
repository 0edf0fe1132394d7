package resource

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

func validateSlice(n, o *resourcev1.ResourceSlice) (e check.Errors) {
	s, at := &n.Spec, field.NewPath("spec")
	e.Add(core.ValidateCSIDriverName(s.Driver, at.Child("driver"))...)
	e.Add(validatePool(&s.Pool, at.Child("pool"))...)
	if o != nil {
		e.Unchanged(at.Child("pool", "name"), s.Pool.Name, o.Spec.Pool.Name)
		e.Unchanged(at.Child("driver"), s.Driver, o.Spec.Driver)
		e.Unchanged(at.Child("nodeName"), s.NodeName, o.Spec.NodeName)
	}
	e.Add(validatePlace(s, at)...)
	if s.SharedCounters != nil && s.Devices != nil {
		e.Invalid(at, "", "only one of `sharedCounters` or `devices` is allowed")
	}
	most := resourcev1.ResourceSliceMaxDevices
	if advanced(s) {
		most = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	former := map[string]*resourcev1.Device{}
	if o != nil {
		for i := range o.Spec.Devices {
			former[o.Spec.Devices[i].Name] = &o.Spec.Devices[i]
		}
	}
	perDevice := s.PerDeviceNodeSelection != nil && *s.PerDeviceNodeSelection
	name := func(d *resourcev1.Device) string { return d.Name }
	e.Add(validateSet(s.Devices, most, at.Child("devices"), name, func(d *resourcev1.Device, at *field.Path) check.Errors {
		return validateDevice(d, former[d.Name], perDevice, at)
	})...)
	set := func(c *resourcev1.CounterSet) string { return c.Name }
	e.Add(validateSet(s.SharedCounters, resourcev1.ResourceSliceMaxCounterSets, at.Child("sharedCounters"), set, func(c *resourcev1.CounterSet, at *field.Path) check.Errors {
		return validateCounters(c.Name, at.Child("name"), c.Counters, resourcev1.ResourceSliceMaxCountersPerCounterSet, at.Child("counters"))
	})...)
	return e
}

// advanced tells whether a slice has what makes its devices more costly to look at.
func advanced(s *resourcev1.ResourceSliceSpec) bool {
	for i := range s.Devices {
		if len(s.Devices[i].Taints) > 0 || len(s.Devices[i].ConsumesCounters) > 0 {
			return true
		}
	}
	return hasLists(s)
}

func validatePool(p *resourcev1.ResourcePool, at *field.Path) check.Errors {
	e := validatePoolName(p.Name, at.Child("name"))
	if p.ResourceSliceCount <= 0 {
		e.Invalid(at.Child("resourceSliceCount"), p.ResourceSliceCount, "must be greater than zero")
	}
	if p.Generation < 0 {
		e.Invalid(at.Child("generation"), p.Generation, "must be greater than or equal to zero")
	}
	return e
}

// place collects which of the ways to say where devices are is in use.
type place struct {
	e   check.Errors
	set []string
}

func (p *place) node(name *string, at *field.Path, empty string) {
	if name == nil {
		return
	}
	if *name == "" {
		p.e.Invalid(at, "", empty)
		return
	}
	p.set = append(p.set, "`nodeName`")
	p.e.Messages(at, *name, apivalidation.NameIsDNSSubdomain(*name, false))
}

func (p *place) selector(s *corev1.NodeSelector, at *field.Path) {
	if s == nil {
		return
	}
	p.set = append(p.set, "`nodeSelector`")
	p.e.Add(core.ValidateNodeSelector(s, false, at)...)
}

func (p *place) flag(name string, value *bool, at *field.Path) {
	if value == nil {
		return
	}
	if !*value {
		p.e.Invalid(at.Child(name), false, "must be either unset or set to true")
		return
	}
	p.set = append(p.set, "`"+name+"`")
}

func (p *place) one(at *field.Path, none, several string) check.Errors {
	switch len(p.set) {
	case 0:
		p.e.Required(at, none)
	case 1:
	default:
		p.e.Invalid(at, "{"+strings.Join(p.set, ", ")+"}", several)
	}
	return p.e
}

func validatePlace(s *resourcev1.ResourceSliceSpec, at *field.Path) check.Errors {
	const one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	var p place
	p.node(s.NodeName, at.Child("nodeName"), "must be either unset or set to a non-empty string")
	p.selector(s.NodeSelector, at.Child("nodeSelector"))
	if s.NodeSelector != nil && len(s.NodeSelector.NodeSelectorTerms) != 1 {
		p.e.Invalid(at.Child("nodeSelector", "nodeSelectorTerms"), s.NodeSelector.NodeSelectorTerms, "must have exactly one node selector term")
	}
	p.flag("allNodes", s.AllNodes, at)
	p.flag("perDeviceNodeSelection", s.PerDeviceNodeSelection, at)
	return p.one(at, one, one+", but multiple fields are set")
}

func validateDevicePlace(d *resourcev1.Device, perDevice bool, at *field.Path) check.Errors {
	var p place
	if !perDevice {
		if d.NodeName != nil || d.NodeSelector != nil || d.AllNodes != nil {
			p.e.Invalid(at, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec")
		}
		return p.e
	}
	const one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
	p.node(d.NodeName, at.Child("nodeName"), "must not be empty")
	p.selector(d.NodeSelector, at.Child("nodeSelector"))
	p.flag("allNodes", d.AllNodes, at)
	return p.one(at, one, one)
}

func validateDevice(d, former *resourcev1.Device, perDevice bool, at *field.Path) (e check.Errors) {
	e.Label(at.Child("name"), d.Name)
	if n, most := len(d.Attributes)+len(d.Capacity), resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice; n > most {
		e.Invalidf(at, n, "the total number of attributes and capacities must not exceed %d", most)
	}
	if n, most := attributeValues(d), resourcev1.ResourceSliceMaxAttributeValuesPerDevice; n > most {
		e.Invalidf(at, n, "the total number of attribute values must not exceed %d", most)
	}
	e.Add(validateMap(d.Attributes, unlimited, maxQualifiedName, at.Child("attributes"), validateQualifiedName, validateAttribute)...)
	shared := d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations
	e.Add(validateMap(d.Capacity, unlimited, maxQualifiedName, at.Child("capacity"), validateQualifiedName, func(c *resourcev1.DeviceCapacity, at *field.Path) (e check.Errors) {
		at = at.Child("requestPolicy")
		switch {
		case c.RequestPolicy == nil:
		case shared:
			return validatePolicy(c.Value, c.RequestPolicy, at)
		default:
			e.Forbidden(at, "allowMultipleAllocations must be true")
		}
		return e
	})...)
	if former == nil || !equality.Semantic.DeepEqual(former.Taints, d.Taints) {
		e.Add(validateList(d.Taints, resourcev1.DeviceTaintsMaxLength, at.Child("taints"), validateTaint)...)
	}
	set := func(c *resourcev1.DeviceCounterConsumption) string { return c.CounterSet }
	e.Add(validateSet(d.ConsumesCounters, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice, at.Child("consumesCounters"), set, func(c *resourcev1.DeviceCounterConsumption, at *field.Path) check.Errors {
		return validateCounters(c.CounterSet, at.Child("counterSet"), c.Counters, resourcev1.ResourceSliceMaxCountersPerDeviceCounterConsumption, at.Child("counters"))
	})...)
	e.Add(validateDevicePlace(d, perDevice, at)...)
	e.Add(validateBinding(d.BindingConditions, d.BindingFailureConditions, at)...)
	return e
}

func validateCounters(set string, setAt *field.Path, counters map[string]resourcev1.Counter, most int, at *field.Path) (e check.Errors) {
	if set == "" {
		e.Required(setAt, "")
	} else {
		e.Label(setAt, set)
	}
	if len(counters) == 0 {
		e.Required(at, "")
		return e
	}
	e.Add(validateMap(counters, most, validation.DNS1123LabelMaxLength, at, validateLabelName, func(*resourcev1.Counter, *field.Path) check.Errors { return nil })...)
	return e
}
