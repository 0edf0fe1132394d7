package authorization

import (
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

func validateSelectors(a *authorizationv1.ResourceAttributes) check.Errors {
	var errs check.Errors
	if a == nil {
		return errs
	}
	// Operators that this server doesn't know are left to be ignored: clients may be newer.
	if s := a.FieldSelector; s != nil {
		at := field.NewPath("spec.resourceAttributes").Child("fieldSelector")
		oneForm(&errs, at, s.RawSelector, len(s.Requirements))
		for i, r := range s.Requirements {
			opts := metav1validation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}
			errs.Add(metav1validation.ValidateFieldSelectorRequirement(r, opts, at.Child("requirements").Index(i))...)
		}
	}
	if s := a.LabelSelector; s != nil {
		at := field.NewPath("spec.resourceAttributes").Child("labelSelector")
		oneForm(&errs, at, s.RawSelector, len(s.Requirements))
		for i, r := range s.Requirements {
			opts := metav1validation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}
			errs.Add(metav1validation.ValidateLabelSelectorRequirement(r, opts, at.Child("requirements").Index(i))...)
		}
	}
	return errs
}

func oneForm(errs *check.Errors, at *field.Path, raw string, requirements int) {
	if raw != "" && requirements > 0 {
		errs.Invalid(at.Child("rawSelector"), raw, "may not specified at the same time as requirements")
	}
	if raw == "" && requirements == 0 {
		errs.Required(at.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", at))
	}
}

// selectorsOf returns what can be understood of a review's selectors, in the form of a request's, and what could not.
// To leave out a requirement asks for more, so nothing is allowed that should not be.
func selectorsOf(a *authorizationv1.ResourceAttributes) (fieldSelector, labelSelector, problems string) {
	var texts []string
	if s := a.FieldSelector; s != nil {
		ok, failed := fieldRequirements(s)
		fieldSelector = ok
		texts = append(texts, ignored("fieldSelector", ok != "", failed)...)
	}
	if s := a.LabelSelector; s != nil {
		ok, failed := labelRequirements(s)
		labelSelector = ok
		texts = append(texts, ignored("labelSelector", ok != "", failed)...)
	}
	return fieldSelector, labelSelector, strings.Join(texts, "; ")
}

func ignored(what string, some, failed bool) []string {
	switch {
	case !failed:
		return nil
	case some:
		return []string{"spec.resourceAttributes." + what + " partially ignored due to parse error"}
	}
	return []string{"spec.resourceAttributes." + what + " ignored due to parse error"}
}

func fieldRequirements(s *authorizationv1.FieldSelectorAttributes) (string, bool) {
	if s.RawSelector != "" {
		sel, err := fields.ParseSelector(s.RawSelector)
		if err != nil {
			return "", true
		}
		return sel.String(), false
	}
	var terms []fields.Selector
	failed := false
	for _, r := range s.Requirements {
		switch {
		case len(r.Values) == 1 && r.Operator == metav1.FieldSelectorOpIn:
			terms = append(terms, fields.OneTermEqualSelector(r.Key, r.Values[0]))
		case len(r.Values) == 1 && r.Operator == metav1.FieldSelectorOpNotIn:
			terms = append(terms, fields.OneTermNotEqualSelector(r.Key, r.Values[0]))
		default:
			failed = true
		}
	}
	return fields.AndSelectors(terms...).String(), failed
}

var labelOperators = map[metav1.LabelSelectorOperator]selection.Operator{
	metav1.LabelSelectorOpIn:           selection.In,
	metav1.LabelSelectorOpNotIn:        selection.NotIn,
	metav1.LabelSelectorOpExists:       selection.Exists,
	metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
}

func labelRequirements(s *authorizationv1.LabelSelectorAttributes) (string, bool) {
	if s.RawSelector != "" {
		sel, err := labels.Parse(s.RawSelector)
		if err != nil {
			return "", true
		}
		return sel.String(), false
	}
	out := labels.NewSelector()
	failed := false
	for _, r := range s.Requirements {
		req, err := labels.NewRequirement(r.Key, labelOperators[r.Operator], r.Values)
		if err != nil {
			failed = true
			continue
		}
		out = out.Add(*req)
	}
	return out.String(), failed
}
