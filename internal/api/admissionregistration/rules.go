package admissionregistration

import (
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/expression"
)

func differ(a, b any) bool { return !equality.Semantic.DeepEqual(a, b) }

func checkSelector(e *check.Errors, path *field.Path, s *metav1.LabelSelector) {
	if s != nil {
		e.Add(metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, path)...)
	}
}

// operations are those that a rule may name, in the order that errors list them.
var operations = []admissionv1.OperationType{admissionv1.OperationAll, admissionv1.Connect, admissionv1.Create, admissionv1.Delete, admissionv1.Update}

func checkRule(e *check.Errors, path *field.Path, r *admissionv1.RuleWithOperations) {
	if len(r.Operations) == 0 {
		e.Required(path.Child("operations"), "")
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionv1.OperationAll) {
		e.Invalid(path.Child("operations"), r.Operations, "if '*' is present, must not specify other operations")
	}
	for i, op := range r.Operations {
		check.OneOf(e, path.Child("operations").Index(i), op, operations...)
	}
	checkAlone(e, path.Child("apiGroups"), r.APIGroups, "API groups")
	checkAlone(e, path.Child("apiVersions"), r.APIVersions, "API versions")
	for i, v := range r.APIVersions {
		e.NonEmpty(path.Child("apiVersions").Index(i), v)
	}
	checkResources(e, path.Child("resources"), r.Resources)
	if r.Scope != nil {
		check.OneOf(e, path.Child("scope"), *r.Scope, admissionv1.AllScopes, admissionv1.ClusterScope, admissionv1.NamespacedScope)
	}
}

func checkAlone(e *check.Errors, path *field.Path, list []string, what string) {
	if len(list) == 0 {
		e.Required(path, "")
	}
	if len(list) > 1 && slices.Contains(list, "*") {
		e.Invalid(path, list, "if '*' is present, must not specify other "+what)
	}
}

func checkResources(e *check.Errors, path *field.Path, resources []string) {
	if len(resources) == 0 {
		e.Required(path, "")
	}
	anySub, anyResource := map[string]bool{}, map[string]bool{}
	plain := false
	for i, text := range resources {
		if text == "" {
			e.Required(path.Index(i), "")
			continue
		}
		resource, sub, divided := strings.Cut(text, "/")
		if !divided {
			plain = text != "*"
			continue
		}
		if anySub[resource] {
			e.Invalidf(path.Index(i), text, "if '%s/*' is present, must not specify %s", resource, text)
		}
		if anyResource[sub] {
			e.Invalidf(path.Index(i), text, "if '*/%s' is present, must not specify %s", sub, text)
		}
		anySub[resource] = anySub[resource] || sub == "*"
		anyResource[sub] = anyResource[sub] || resource == "*"
	}
	if len(resources) > 1 && slices.Contains(resources, "*/*") {
		e.Invalid(path, resources, "if '*/*' is present, must not specify other resources")
	}
	if plain && slices.Contains(resources, "*") {
		e.Invalid(path, resources, "if '*' is present, must not specify other resources without subresources")
	}
}

// maxConditions is how many match conditions there may be.
const maxConditions = 64

func checkConditions(e *check.Errors, path *field.Path, conditions []admissionv1.MatchCondition, params bool) {
	if len(conditions) > maxConditions {
		e.TooMany(path, len(conditions), maxConditions)
	}
	if len(conditions) == 0 {
		return
	}
	set, err := expression.NewSet(expression.Has{Params: params, Authorizer: true})
	if err != nil {
		e.Internal(path, err)
		return
	}
	seen := map[string]bool{}
	for i, c := range conditions {
		at := path.Index(i)
		if text := strings.TrimSpace(c.Expression); text == "" {
			e.Required(at.Child("expression"), "")
		} else if _, err := set.Compile(text, expression.Bool); err != nil {
			e.Invalid(at.Child("expression"), text, err.Error())
		}
		if c.Name == "" {
			e.Required(at.Child("name"), "")
			continue
		}
		e.Qualified(at.Child("name"), c.Name)
		if seen[c.Name] {
			e.Duplicate(at.Child("name"), c.Name)
		}
		seen[c.Name] = true
	}
}
