package resource

import (
	resourcev1 "k8s.io/api/resource/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// Alphabetical.
var taintEffects = []resourcev1.DeviceTaintEffect{resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone}

func validateTaint(t *resourcev1.DeviceTaint, at *field.Path) (e check.Errors) {
	e.Add(metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
	if t.Value != "" {
		e.Messages(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))
	}
	if t.Effect == "" {
		e.Required(at.Child("effect"), "")
		return e
	}
	check.OneOf(&e, at.Child("effect"), t.Effect, taintEffects...)
	return e
}

func validateTolerations(tolerations []resourcev1.DeviceToleration, at *field.Path) check.Errors {
	return validateList(tolerations, resourcev1.DeviceTolerationsMaxLength, at, validateToleration)
}

func validateToleration(t *resourcev1.DeviceToleration, at *field.Path) (e check.Errors) {
	if t.Key != "" {
		e.Add(metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
	}
	switch value := at.Child("value"); t.Operator {
	case resourcev1.DeviceTolerationOpExists:
		if t.Value != "" {
			e.Invalid(value, t.Value, "must be empty for operator `Exists`")
		}
	case resourcev1.DeviceTolerationOpEqual:
		e.Messages(value, t.Value, validation.IsValidLabelValue(t.Value))
	case "":
		e.Required(at.Child("operator"), "")
	default:
		check.OneOf(&e, at.Child("operator"), t.Operator, resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists)
	}
	if t.Effect != "" {
		check.OneOf(&e, at.Child("effect"), t.Effect, taintEffects...)
	}
	return e
}
