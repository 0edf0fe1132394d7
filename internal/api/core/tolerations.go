package core

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

var taintEffects = []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}

// ValidateTolerations checks the tolerations that a RuntimeClass adds to its pods.
func ValidateTolerations(list []corev1.Toleration, path *field.Path) check.Errors {
	return validateTolerations(list, path, &podOptions{})
}

func validateTolerations(list []corev1.Toleration, path *field.Path, opts *podOptions) (e check.Errors) {
	for i, t := range list {
		at := path.Index(i)
		if t.Key != "" {
			e.Add(metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
		} else if t.Operator != corev1.TolerationOpExists {
			e.Invalid(at.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			e.Invalid(at.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
		}
		e.Add(validateTolerationValue(t, at, opts)...)
		if t.Effect != "" {
			check.OneOf(&e, at.Child("effect"), t.Effect, taintEffects...)
		}
	}
	return e
}

func validateTolerationValue(t corev1.Toleration, path *field.Path, opts *podOptions) (e check.Errors) {
	switch t.Operator {
	case corev1.TolerationOpEqual, "":
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			e.Invalid(path.Child("operator"), t.Value, strings.Join(msgs, ";"))
		}
	case corev1.TolerationOpExists:
		if t.Value != "" {
			e.Invalid(path.Child("operator"), t.Value, "value must be empty when `operator` is 'Exists'")
		}
	case corev1.TolerationOpLt, corev1.TolerationOpGt:
		if !opts.comparingTolerations {
			e.Add(field.NotSupported(path.Child("operator"), t.Operator,
				[]corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpLt, corev1.TolerationOpGt}))
			return e
		}
		e.Messages(path.Child("value"), t.Value, content.IsDecimalInteger(t.Value))
		if _, err := strconv.ParseInt(t.Value, 10, 64); err != nil {
			e.Invalid(path.Child("value"), t.Value, err.Error())
		}
	default:
		check.OneOf(&e, path.Child("operator"), t.Operator, corev1.TolerationOpEqual, corev1.TolerationOpExists)
	}
	return e
}
