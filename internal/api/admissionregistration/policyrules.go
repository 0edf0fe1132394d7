package admissionregistration

import (
	"regexp"
	"strings"

	"github.com/google/cel-go/cel"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/jsonpath"

	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/expression"
)

// Bounds of audit annotations.
const (
	maxAnnotations      = 20
	maxAnnotationLength = 5 * 1024
)

var identifier = regexp.MustCompile("^[_a-zA-Z][_a-zA-Z0-9]*$")

// validateValidatingPolicy checks a policy. Match conditions that an update leaves alone are not looked at: what they mean depends on paramKind too.
func validateValidatingPolicy(p, old *admissionv1.ValidatingAdmissionPolicy) (e check.Errors) {
	spec := field.NewPath("spec")
	has := expression.Has{Params: p.Spec.ParamKind != nil, Authorizer: true, Variables: len(p.Spec.Variables) > 0}
	sameConditions := old != nil && !differ(p.Spec.ParamKind, old.Spec.ParamKind) && !differ(p.Spec.MatchConditions, old.Spec.MatchConditions)
	set := checkPolicy(&e, spec, has, p.Spec.FailurePolicy, p.Spec.ParamKind, p.Spec.MatchConstraints, p.Spec.MatchConditions, sameConditions, p.Spec.Variables)
	if set == nil {
		return e
	}
	if len(p.Spec.Validations) == 0 && len(p.Spec.AuditAnnotations) == 0 {
		const detail = "validations or auditAnnotations must contain at least one item"
		e.Required(spec.Child("validations"), detail)
		e.Required(spec.Child("auditAnnotations"), detail)
	}
	for i := range p.Spec.Validations {
		checkValidation(&e, spec.Child("validations").Index(i), &p.Spec.Validations[i], set)
	}
	annotations := spec.Child("auditAnnotations")
	if len(p.Spec.AuditAnnotations) > maxAnnotations {
		e.Invalidf(annotations, p.Spec.AuditAnnotations, "must not have more than %d auditAnnotations", maxAnnotations)
	}
	seen := map[string]bool{}
	for i, a := range p.Spec.AuditAnnotations {
		at := annotations.Index(i)
		if p.Name != "" {
			e.Messages(at.Child("key"), p.Name+"/"+a.Key, validation.IsQualifiedName(p.Name+"/"+a.Key))
		} else {
			e.Invalid(at.Child("key"), a.Key, "requires metadata.name be non-empty")
		}
		switch text := strings.TrimSpace(a.ValueExpression); {
		case text == "":
			e.Required(at.Child("valueExpression"), "valueExpression is not specified")
		case len(text) > maxAnnotationLength:
			e.Required(at.Child("valueExpression"), "must not exceed 5120 bytes in length")
		default:
			if _, err := set.Compile(text, expression.String, expression.Null); err != nil {
				e.Invalid(at.Child("valueExpression"), a.ValueExpression, err.Error())
			}
		}
		if seen[a.Key] {
			e.Duplicate(at.Child("key"), a.Key)
		}
		seen[a.Key] = true
	}
	return e
}

func checkValidation(e *check.Errors, at *field.Path, v *admissionv1.Validation, set *expression.Set) {
	if strings.TrimSpace(v.Expression) == "" {
		e.Required(at.Child("expression"), "expression is not specified")
	} else if _, err := set.Compile(v.Expression, expression.Bool); err != nil {
		e.Invalid(at.Child("expression"), v.Expression, err.Error())
	}
	if v.MessageExpression != "" && strings.TrimSpace(v.MessageExpression) == "" {
		e.Invalid(at.Child("messageExpression"), v.MessageExpression, "must be non-empty if specified")
	} else if v.MessageExpression != "" {
		messages, err := set.WithoutAuthorizer()
		if err == nil {
			_, err = messages.Compile(v.MessageExpression, expression.String)
		}
		if err != nil {
			e.Invalid(at.Child("messageExpression"), v.MessageExpression, err.Error())
		}
	}
	if message := strings.TrimSpace(v.Message); v.Message != "" && message == "" {
		e.Invalid(at.Child("message"), v.Message, "must be non-empty if specified")
	} else if strings.ContainsAny(message, "\n\r") {
		e.Invalid(at.Child("message"), v.Message, "must not contain line breaks")
	}
	if v.Reason != nil {
		check.OneOf(e, at.Child("reason"), *v.Reason, metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge)
	}
}

func validateMutatingPolicy(p, old *admissionv1.MutatingAdmissionPolicy) (e check.Errors) {
	spec := field.NewPath("spec")
	has := expression.Has{Params: p.Spec.ParamKind != nil, Authorizer: true, Patches: true, Variables: true}
	sameConditions := old != nil && !differ(p.Spec.ParamKind, old.Spec.ParamKind) && !differ(p.Spec.MatchConditions, old.Spec.MatchConditions)
	set := checkPolicy(&e, spec, has, p.Spec.FailurePolicy, p.Spec.ParamKind, p.Spec.MatchConstraints, p.Spec.MatchConditions, sameConditions, p.Spec.Variables)
	if set == nil {
		return e
	}
	checkMutable(&e, spec.Child("matchConstraints"), p.Spec.MatchConstraints)
	if len(p.Spec.Mutations) == 0 {
		e.Required(spec.Child("mutations"), "mutations must contain at least one item")
	}
	for i, m := range p.Spec.Mutations {
		checkMutation(&e, spec.Child("mutations").Index(i), &m, set)
	}
	if p.Spec.ReinvocationPolicy == "" {
		e.Required(spec.Child("reinvocationPolicy"), "")
	} else {
		check.OneOf(&e, spec.Child("reinvocationPolicy"), p.Spec.ReinvocationPolicy, admissionv1.IfNeededReinvocationPolicy, admissionv1.NeverReinvocationPolicy)
	}
	return e
}

// checkMutable refuses operations whose objects nothing can change. Upstream's path of them counts nothing.
func checkMutable(e *check.Errors, at *field.Path, m *admissionv1.MatchResources) {
	if m == nil {
		return
	}
	for _, r := range m.ResourceRules {
		for _, op := range r.Operations {
			check.OneOf(e, at.Child("resourceRules", "operations"), op, admissionv1.OperationAll, admissionv1.Connect, admissionv1.Create, admissionv1.Update)
		}
	}
}

func checkMutation(e *check.Errors, at *field.Path, m *admissionv1.Mutation, set *expression.Set) {
	switch m.PatchType {
	case "":
		e.Required(at.Child("patchType"), "")
	case admissionv1.PatchTypeApplyConfiguration:
		if m.ApplyConfiguration == nil {
			e.Required(at.Child("applyConfiguration"), "must be specified when patchType is ApplyConfiguration")
		} else {
			checkMutator(e, at.Child("applyConfiguration", "expression"), m.ApplyConfiguration.Expression, expression.ObjectPatch, set)
		}
		if m.JSONPatch != nil {
			e.Invalid(at.Child("jsonPatch"), "{jsonPatch}", "must not be specified when patchType is ApplyConfiguration")
		}
	case admissionv1.PatchTypeJSONPatch:
		if m.JSONPatch == nil {
			e.Required(at.Child("jsonPatch"), "must be specified when patchType is JSONPatch")
		} else {
			checkMutator(e, at.Child("jsonPatch", "expression"), m.JSONPatch.Expression, expression.JSONPatchList, set)
		}
		if m.ApplyConfiguration != nil {
			e.Invalid(at.Child("applyConfiguration"), "{applyConfiguration}", "must not be specified when patchType is JSONPatch")
		}
	default:
		check.OneOf(e, at.Child("patchType"), m.PatchType, admissionv1.PatchTypeApplyConfiguration, admissionv1.PatchTypeJSONPatch)
	}
}

func checkMutator(e *check.Errors, at *field.Path, text string, result *cel.Type, set *expression.Set) {
	if strings.TrimSpace(text) == "" {
		e.Required(at, "")
	} else if _, err := set.Compile(text, result); err != nil {
		e.Invalid(at, text, err.Error())
	}
}

// checkPolicy checks what both kinds of policies have. It returns what their expressions are compiled in.
func checkPolicy(e *check.Errors, spec *field.Path, has expression.Has, failure *admissionv1.FailurePolicyType, param *admissionv1.ParamKind, m *admissionv1.MatchResources,
	conditions []admissionv1.MatchCondition, sameConditions bool, variables []admissionv1.Variable,
) *expression.Set {
	if failure == nil {
		e.Required(spec.Child("failurePolicy"), "")
	} else {
		check.OneOf(e, spec.Child("failurePolicy"), *failure, admissionv1.Fail, admissionv1.Ignore)
	}
	if param != nil {
		checkParamKind(e, spec.Child("paramKind"), param)
	}
	if m == nil {
		e.Required(spec.Child("matchConstraints"), "")
	} else {
		checkMatch(e, spec.Child("matchConstraints"), m)
		if len(m.ResourceRules) == 0 {
			e.Required(spec.Child("matchConstraints", "resourceRules"), "")
		}
	}
	if !sameConditions {
		checkConditions(e, spec.Child("matchConditions"), conditions, param != nil)
	}
	set, err := expression.NewSet(has)
	if err != nil {
		e.Internal(spec, err)
		return nil
	}
	for i, v := range variables {
		at := spec.Child("variables").Index(i)
		if strings.TrimSpace(v.Name) == "" {
			e.Required(at.Child("name"), "name is not specified")
		} else if !identifier.MatchString(v.Name) {
			e.Invalid(at.Child("name"), v.Name, "must be a valid CEL identifier")
		}
		if strings.TrimSpace(v.Expression) == "" {
			e.Required(at.Child("expression"), "expression is not specified")
		} else if err := set.Declare(v.Name, v.Expression); err != nil {
			e.Invalid(at.Child("expression"), v.Expression, err.Error())
		}
	}
	return set
}

func checkParamKind(e *check.Errors, at *field.Path, k *admissionv1.ParamKind) {
	if k.APIVersion == "" {
		e.Required(at.Child("apiVersion"), "")
	} else if gv, err := schema.ParseGroupVersion(k.APIVersion); err != nil {
		e.Invalid(at.Child("apiVersion"), k.APIVersion, err.Error())
	} else {
		if errs := validation.IsDNS1123Subdomain(gv.Group); gv.Group != "" && len(errs) > 0 {
			e.Invalid(at.Child("apiVersion"), gv.Group, strings.Join(errs, ","))
		}
		if errs := validation.IsDNS1035Label(gv.Version); gv.Version == "" {
			e.Invalid(at.Child("apiVersion"), k.APIVersion, "version must be specified")
		} else if len(errs) > 0 {
			e.Invalid(at.Child("apiVersion"), gv.Version, strings.Join(errs, ","))
		}
	}
	if k.Kind == "" {
		e.Required(at.Child("kind"), "")
	} else if errs := validation.IsDNS1035Label(strings.ToLower(k.Kind)); len(errs) > 0 {
		e.Invalid(at.Child("kind"), k.Kind, "may have mixed case, but should otherwise match: "+strings.Join(errs, ","))
	}
}

func checkMatch(e *check.Errors, at *field.Path, m *admissionv1.MatchResources) {
	if m == nil {
		return
	}
	if m.MatchPolicy != nil {
		check.OneOf(e, at.Child("matchPolicy"), *m.MatchPolicy, admissionv1.Equivalent, admissionv1.Exact)
	}
	checkSelector(e, at.Child("namespaceSelector"), m.NamespaceSelector)
	checkSelector(e, at.Child("objectSelector"), m.ObjectSelector)
	for _, list := range []struct {
		name  string
		rules []admissionv1.NamedRuleWithOperations
	}{{"resourceRules", m.ResourceRules}, {"excludeResourceRules", m.ExcludeResourceRules}} {
		for i := range list.rules {
			rule := at.Child(list.name).Index(i)
			seen := map[string]bool{}
			for j, name := range list.rules[i].ResourceNames {
				e.Messages(rule.Child("resourceNames").Index(j), name, path.IsValidPathSegmentName(name))
				if seen[name] {
					e.Duplicate(rule.Child("resourceNames").Index(j), name)
				}
				seen[name] = true
			}
			checkRule(e, rule, &list.rules[i].RuleWithOperations)
		}
	}
}

func checkParamRef(e *check.Errors, at *field.Path, r *admissionv1.ParamRef) {
	if r == nil {
		return
	}
	const exclusive = "name and selector are mutually exclusive"
	if r.Name != "" {
		e.Messages(at.Child("name"), r.Name, path.IsValidPathSegmentName(r.Name))
		if r.Selector != nil {
			e.Forbidden(at.Child("name"), exclusive)
		}
	}
	checkSelector(e, at.Child("selector"), r.Selector)
	switch {
	case r.Name != "" && r.Selector != nil:
		e.Forbidden(at.Child("selector"), exclusive)
	case r.Name == "" && r.Selector == nil:
		e.Required(at, "one of name or selector must be specified")
	}
	if r.ParameterNotFoundAction == nil || *r.ParameterNotFoundAction == "" {
		e.Required(at.Child("parameterNotFoundAction"), "")
	} else {
		check.OneOf(e, at.Child("parameterNotFoundAction"), *r.ParameterNotFoundAction, admissionv1.DenyAction, admissionv1.AllowAction)
	}
}

func checkPolicyName(e *check.Errors, at *field.Path, name string) {
	if name == "" {
		e.Required(at, "")
		return
	}
	e.Subdomain(at, name)
}

func validateValidatingBinding(b *admissionv1.ValidatingAdmissionPolicyBinding) (e check.Errors) {
	spec := field.NewPath("spec")
	checkPolicyName(&e, spec.Child("policyName"), b.Spec.PolicyName)
	checkParamRef(&e, spec.Child("paramRef"), b.Spec.ParamRef)
	checkMatch(&e, spec.Child("matchResources"), b.Spec.MatchResources)
	at := spec.Child("validationActions")
	if len(b.Spec.ValidationActions) == 0 {
		e.Required(at, "at least one validation action is required")
	}
	seen := map[admissionv1.ValidationAction]bool{}
	for i, a := range b.Spec.ValidationActions {
		check.OneOf(&e, at.Index(i), a, admissionv1.Audit, admissionv1.Deny, admissionv1.Warn)
		if seen[a] {
			e.Duplicate(at.Index(i), a)
		}
		seen[a] = true
	}
	if seen[admissionv1.Deny] && seen[admissionv1.Warn] {
		e.Invalid(at, b.Spec.ValidationActions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)")
	}
	return e
}

func validateMutatingBinding(b *admissionv1.MutatingAdmissionPolicyBinding) (e check.Errors) {
	spec := field.NewPath("spec")
	checkPolicyName(&e, spec.Child("policyName"), b.Spec.PolicyName)
	checkParamRef(&e, spec.Child("paramRef"), b.Spec.ParamRef)
	checkMatch(&e, spec.Child("matchResources"), b.Spec.MatchResources)
	checkMutable(&e, spec.Child("matchResources"), b.Spec.MatchResources)
	return e
}

func validatePolicyStatus(p *admissionv1.ValidatingAdmissionPolicy) (e check.Errors) {
	at := field.NewPath("status")
	if t := p.Status.TypeChecking; t != nil {
		for i, w := range t.ExpressionWarnings {
			at := at.Child("typeChecking", "expressionWarnings").Index(i)
			e.NonEmpty(at.Child("warning"), w.Warning)
			ref := strings.TrimSpace(w.FieldRef)
			if ref == "" {
				e.Required(at.Child("fieldRef"), "")
			} else if err := jsonpath.New("spec").Parse("{" + ref + "}"); err != nil {
				e.Invalidf(at.Child("fieldRef"), ref, "invalid JSONPath: %v", err)
			}
		}
	}
	e.Add(metav1validation.ValidateConditions(p.Status.Conditions, at.Child("conditions"))...)
	return e
}
