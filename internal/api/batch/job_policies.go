package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

const (
	maxFailureRules        = 20
	maxExitCodes           = 255
	maxConditionPatterns   = 20
	maxSuccessRules        = 20
	maxSucceededIndexesLen = 64 * 1024
)

// Each in alphabetical order.
var (
	failureActions    = []batchv1.PodFailurePolicyAction{batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore}
	exitCodeOperators = []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	conditionStatuses = []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
)

// named requires a value, and one of those supported.
func named[T ~string](e *check.Errors, path *field.Path, value T, supported []T) {
	if value == "" {
		e.Required(path, fmt.Sprintf("valid values: %q", supported))
	} else if !slices.Contains(supported, value) {
		e.Add(field.NotSupported(path, value, supported))
	}
}

func validateFailurePolicy(s *batchv1.JobSpec, path *field.Path) (e check.Errors) {
	path = path.Child("rules")
	rules := s.PodFailurePolicy.Rules
	if len(rules) > maxFailureRules {
		e.TooMany(path, len(rules), maxFailureRules)
	}
	for i := range rules {
		r, at := &rules[i], path.Index(i)
		if r.Action == batchv1.PodFailurePolicyActionFailIndex {
			if s.BackoffLimitPerIndex == nil {
				e.Invalid(at.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set")
			}
		} else {
			named(&e, at.Child("action"), r.Action, failureActions)
		}
		if r.OnExitCodes != nil {
			e.Add(validateExitCodes(r.OnExitCodes, &s.Template.Spec, at.Child("onExitCodes"))...)
		}
		e.Add(validateConditionPatterns(r.OnPodConditions, at.Child("onPodConditions"))...)
		switch codes, conditions := r.OnExitCodes != nil, len(r.OnPodConditions) > 0; {
		case codes && conditions:
			e.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported")
		case !codes && !conditions:
			e.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required")
		}
	}
	return e
}

func validateConditionPatterns(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, path *field.Path) (e check.Errors) {
	if len(patterns) > maxConditionPatterns {
		e.TooMany(path, len(patterns), maxConditionPatterns)
	}
	for i, p := range patterns {
		e.Qualified(path.Index(i).Child("type"), string(p.Type))
		named(&e, path.Index(i).Child("status"), p.Status, conditionStatuses)
	}
	return e
}

func validateExitCodes(r *batchv1.PodFailurePolicyOnExitCodesRequirement, pod *corev1.PodSpec, path *field.Path) (e check.Errors) {
	named(&e, path.Child("operator"), r.Operator, exitCodeOperators)
	if r.ContainerName != nil {
		isIt := func(c corev1.Container) bool { return c.Name == *r.ContainerName }
		if !slices.ContainsFunc(pod.Containers, isIt) && !slices.ContainsFunc(pod.InitContainers, isIt) {
			e.Invalid(path.Child("containerName"), *r.ContainerName, "must be one of the container or initContainer names in the pod template")
		}
	}
	path = path.Child("values")
	if len(r.Values) == 0 {
		e.Invalid(path, r.Values, "at least one value is required")
	} else if len(r.Values) > maxExitCodes {
		e.TooMany(path, len(r.Values), maxExitCodes)
	}
	seen := map[int32]bool{}
	for i, code := range r.Values {
		if code == 0 && r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn {
			e.Invalid(path.Index(i), code, "must not be 0 for the In operator")
		}
		if seen[code] {
			e.Duplicate(path.Index(i), code)
		}
		seen[code] = true
	}
	if !slices.IsSorted(r.Values) {
		e.Invalid(path, r.Values, "must be ordered")
	}
	return e
}

// validateSuccessPolicy checks the policy of an indexed job.
func validateSuccessPolicy(s *batchv1.JobSpec, path *field.Path) (e check.Errors) {
	path = path.Child("rules")
	rules := s.SuccessPolicy.Rules
	if len(rules) == 0 {
		e.Required(path, "at least one rules must be specified when the successPolicy is specified")
	}
	if len(rules) > maxSuccessRules {
		e.TooMany(path, len(rules), maxSuccessRules)
	}
	var completions int32
	if s.Completions != nil { // else it was complained of
		completions = *s.Completions
	}
	for i := range rules {
		e.Add(validateSuccessRule(&rules[i], completions, path.Index(i))...)
	}
	return e
}

func validateSuccessRule(r *batchv1.SuccessPolicyRule, completions int32, path *field.Path) (e check.Errors) {
	if r.SucceededCount == nil && r.SucceededIndexes == nil {
		e.Required(path, "at least one of succeededCount or succeededIndexes must be specified")
	}
	var total int32
	if r.SucceededIndexes != nil {
		at := path.Child("succeededIndexes")
		if len(*r.SucceededIndexes) > maxSucceededIndexesLen {
			e.TooLong(at, maxSucceededIndexesLen)
		}
		var err error
		if total, err = countIndexes(*r.SucceededIndexes, completions); err != nil {
			e.Invalid(at, *r.SucceededIndexes, "error parsing succeededIndexes: "+err.Error())
		}
	}
	if r.SucceededCount != nil {
		at, n := path.Child("succeededCount"), *r.SucceededCount
		e.NonNegative(at, int64(n))
		if n > completions {
			e.Invalidf(at, n, "must be less than or equal to %d (the number of specified completions)", completions)
		}
		if r.SucceededIndexes != nil && n > total {
			e.Invalidf(at, n, "must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)
		}
	}
	return e
}
