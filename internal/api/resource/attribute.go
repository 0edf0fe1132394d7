package resource

import (
	"regexp"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// semantic is the grammar of semver.org 2.0.0: three numbers, then what comes before a release, then the build.
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
	`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)

// attributeValues counts each value of an attribute's list.
func attributeValues(d *resourcev1.Device) (n int) {
	for _, a := range d.Attributes {
		n += max(1, len(a.BoolValues)+len(a.IntValues)+len(a.StringValues)+len(a.VersionValues))
	}
	return n
}

func validateAttribute(a *resourcev1.DeviceAttribute, at *field.Path) (e check.Errors) {
	set := 0
	one := func(there bool) bool {
		if there {
			set++
		}
		return there
	}
	list := func(name string, value any, there bool, n int) {
		if one(there) && n == 0 {
			e.Invalid(at.Child(name), value, "must not be empty if specified")
		}
	}
	one(a.BoolValue != nil)
	one(a.IntValue != nil)
	if one(a.StringValue != nil) {
		validateText(&e, *a.StringValue, at.Child("string"))
	}
	if one(a.VersionValue != nil) {
		validateVersion(&e, *a.VersionValue, at.Child("version"))
	}
	list("bools", a.BoolValues, a.BoolValues != nil, len(a.BoolValues))
	list("ints", a.IntValues, a.IntValues != nil, len(a.IntValues))
	list("strings", a.StringValues, a.StringValues != nil, len(a.StringValues))
	for i, s := range a.StringValues {
		validateText(&e, s, at.Child("strings").Index(i))
	}
	list("versions", a.VersionValues, a.VersionValues != nil, len(a.VersionValues))
	for i, v := range a.VersionValues {
		validateVersion(&e, v, at.Child("versions").Index(i))
	}
	switch set {
	case 0:
		e.Invalid(at, "", "exactly one value must be specified")
	case 1:
	default:
		e.Invalid(at, *a, "exactly one value must be specified")
	}
	return e
}

func validateText(e *check.Errors, s string, at *field.Path) {
	if len(s) > resourcev1.DeviceAttributeMaxValueLength {
		e.TooLong(at, resourcev1.DeviceAttributeMaxValueLength)
	}
}

func validateVersion(e *check.Errors, v string, at *field.Path) {
	if !semantic.MatchString(v) {
		e.Invalid(at, v, "must be a string compatible with semver.org spec 2.0.0")
	}
	validateText(e, v, at)
}
