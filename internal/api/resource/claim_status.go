package resource

import (
	"fmt"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// device names one device, or a share of one.
type device struct{ driver, pool, name, share string }

// String is how complaints name a device.
func (d device) String() string {
	s := d.driver + "/" + d.pool + "/" + d.name
	if d.share != "" {
		s += "/" + d.share
	}
	return s
}

func resultDevice(r *resourcev1.DeviceRequestAllocationResult) device {
	d := device{r.Driver, r.Pool, r.Device, ""}
	if r.ShareID != nil {
		d.share = string(*r.ShareID)
	}
	return d
}

func statusDevice(s *resourcev1.AllocatedDeviceStatus) device {
	d := device{s.Driver, s.Pool, s.Device, ""}
	if s.ShareID != nil {
		d.share = *s.ShareID
	}
	return d
}

func allocated(s *resourcev1.ResourceClaimStatus) map[device]bool {
	out := map[device]bool{}
	if s.Allocation != nil {
		for i := range s.Allocation.Devices.Results {
			out[resultDevice(&s.Allocation.Devices.Results[i])] = true
		}
	}
	return out
}

// dropDeallocated forgets the state of devices that the claim has no more, so that who deallocates needn't know of it.
func dropDeallocated(n, o *resourcev1.ResourceClaimStatus) {
	before, now := allocated(o), allocated(n)
	n.Devices = slices.DeleteFunc(n.Devices, func(s resourcev1.AllocatedDeviceStatus) bool {
		d := statusDevice(&s)
		return before[d] && !now[d]
	})
	if len(n.Devices) == 0 {
		n.Devices = nil
	}
}

func validateClaimStatus(n, o *resourcev1.ResourceClaim) (e check.Errors) {
	s, at := &n.Status, field.NewPath("status")
	uid := func(r *resourcev1.ResourceClaimConsumerReference) types.UID { return r.UID }
	e.Add(validateSet(s.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize, at.Child("reservedFor"), uid, validateConsumer)...)
	has := allocated(s)
	e.Add(validateSet(s.Devices, unlimited, at.Child("devices"), statusDevice, func(d *resourcev1.AllocatedDeviceStatus, at *field.Path) check.Errors {
		return validateDeviceStatus(d, has, at)
	})...)
	if len(s.ReservedFor) > 0 && s.Allocation == nil {
		e.Forbidden(at.Child("reservedFor"), "may not be specified when `allocated` is not set")
	}
	if s.Allocation != nil && n.DeletionTimestamp != nil {
		for _, consumer := range s.ReservedFor {
			if !slices.Contains(o.Status.ReservedFor, consumer) {
				e.Forbidden(at.Child("reservedFor"), "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set")
				break
			}
		}
	}
	switch {
	case s.Allocation != nil && o.Status.Allocation != nil:
		e.Unchanged(at.Child("allocation"), s.Allocation, o.Status.Allocation)
	case s.Allocation != nil:
		e.Add(validateAllocation(s.Allocation, requestNames(&n.Spec), at.Child("allocation"))...)
	}
	return e
}

func validateConsumer(r *resourcev1.ResourceClaimConsumerReference, at *field.Path) (e check.Errors) {
	e.NonEmpty(at.Child("resource"), r.Resource)
	e.NonEmpty(at.Child("name"), r.Name)
	e.NonEmpty(at.Child("uid"), string(r.UID))
	return e
}

func validateAllocation(a *resourcev1.AllocationResult, names requested, at *field.Path) (e check.Errors) {
	devices := at.Child("devices")
	e.Add(validateList(a.Devices.Results, resourcev1.AllocationResultsMaxSize, devices.Child("results"), func(r *resourcev1.DeviceRequestAllocationResult, at *field.Path) check.Errors {
		e := names.validateRef(r.Request, at.Child("request"))
		e.Add(validateDeviceName(r.Driver, r.Pool, r.Device, at)...)
		e.Add(validateBinding(r.BindingConditions, r.BindingFailureConditions, at)...)
		if r.ShareID != nil {
			e.Add(validateUID(string(*r.ShareID), at.Child("shareID"))...)
		}
		return e
	})...)
	most := 2 * resourcev1.DeviceConfigMaxSize // the class's and the claim's
	e.Add(validateList(a.Devices.Config, most, devices.Child("config"), func(c *resourcev1.DeviceAllocationConfiguration, at *field.Path) (e check.Errors) {
		if c.Source == "" {
			e.Required(at.Child("source"), "")
		} else {
			check.OneOf(&e, at.Child("source"), c.Source, resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass)
		}
		e.Add(names.validateRefs(c.Requests, at.Child("requests"))...)
		e.Add(validateConfiguration(&c.DeviceConfiguration, at, false)...)
		return e
	})...)
	if a.NodeSelector != nil {
		e.Add(core.ValidateNodeSelector(a.NodeSelector, false, at.Child("nodeSelector"))...)
	}
	return e
}

func validateDeviceName(driver, pool, name string, at *field.Path) (e check.Errors) {
	e.Add(core.ValidateCSIDriverName(driver, at.Child("driver"))...)
	e.Add(validatePoolName(pool, at.Child("pool"))...)
	e.Label(at.Child("device"), name)
	return e
}

func validateDeviceStatus(s *resourcev1.AllocatedDeviceStatus, has map[device]bool, at *field.Path) check.Errors {
	e := validateDeviceName(s.Driver, s.Pool, s.Device, at)
	if s.ShareID != nil {
		e.Add(validateUID(*s.ShareID, at.Child("shareID"))...)
	}
	if d := statusDevice(s); !has[d] {
		e.Invalid(at, d, "must be an allocated device in the claim")
	}
	if most := resourcev1.AllocatedDeviceStatusMaxConditions; len(s.Conditions) > most {
		e.TooMany(at.Child("conditions"), len(s.Conditions), most)
	}
	e.Add(metav1validation.ValidateConditions(s.Conditions, at.Child("conditions"))...)
	if s.Data != nil && len(s.Data.Raw) > 0 {
		e.Add(validateJSON(*s.Data, resourcev1.AllocatedDeviceStatusDataMaxLength, at.Child("data"))...)
	}
	if s.NetworkData != nil {
		e.Add(validateNetworkData(s.NetworkData, at.Child("networkData"))...)
	}
	return e
}

func validateNetworkData(d *resourcev1.NetworkDeviceData, at *field.Path) (e check.Errors) {
	if most := resourcev1.NetworkDeviceDataInterfaceNameMaxLength; len(d.InterfaceName) > most {
		e.TooLong(at.Child("interfaceName"), most)
	}
	if most := resourcev1.NetworkDeviceDataHardwareAddressMaxLength; len(d.HardwareAddress) > most {
		e.TooLong(at.Child("hardwareAddress"), most)
	}
	e.Add(validateSet(d.IPs, resourcev1.NetworkDeviceDataMaxIPs, at.Child("ips"), itself, func(ip *string, at *field.Path) check.Errors {
		return check.Errors(validation.IsValidInterfaceAddress(at, *ip))
	})...)
	return e
}

// validateBinding checks the conditions that a device waits for before its pod is bound, and those that end the wait.
func validateBinding(conditions, failures []string, at *field.Path) (e check.Errors) {
	good, bad := at.Child("bindingConditions"), at.Child("bindingFailureConditions")
	name := func(s *string, at *field.Path) check.Errors {
		return check.Errors(metav1validation.ValidateLabelName(*s, at))
	}
	e.Add(validateSet(conditions, resourcev1.BindingConditionsMaxSize, good, itself, name)...)
	e.Add(validateSet(failures, resourcev1.BindingFailureConditionsMaxSize, bad, itself, name)...)
	for i, f := range failures {
		if slices.Contains(conditions, f) {
			e.Invalid(bad.Index(i), f, "bindingFailureConditions must not overlap with bindingConditions")
		}
	}
	const both = "%s are required to use %s"
	if len(conditions) == 0 && len(failures) > 0 {
		e.Invalid(good, conditions, fmt.Sprintf(both, "bindingConditions", "bindingFailureConditions"))
	}
	if len(failures) == 0 && len(conditions) > 0 {
		e.Invalid(bad, failures, fmt.Sprintf(both, "bindingFailureConditions", "bindingConditions"))
	}
	return e
}
