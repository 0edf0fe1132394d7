package apiextensions

import (
	"errors"
	"slices"
	"strings"

	celgo "github.com/google/cel-go/cel"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"clipper.dev/clipper/internal/api/check"
)

var ruleReasons = []apiextensions.FieldValueErrorReason{
	apiextensions.FieldValueDuplicate, apiextensions.FieldValueForbidden, apiextensions.FieldValueInvalid, apiextensions.FieldValueRequired,
}

// checkRuleTexts checks everything about rules except that they compile.
func checkRuleTexts(e *check.Errors, path *field.Path, s *apiextensions.JSONSchemaProps) {
	broken := func(text string) bool { return strings.ContainsAny(text, "\n\r") }
	for i, r := range s.XValidations {
		at := path.Child("x-kubernetes-validations").Index(i)
		rule, message := strings.TrimSpace(r.Rule), strings.TrimSpace(r.Message)
		switch {
		case rule == "":
			e.Required(at.Child("rule"), "rule is not specified")
		case r.Message != "" && message == "":
			e.Invalid(at.Child("message"), r.Message, "must be non-empty if specified")
		case broken(message):
			e.Invalid(at.Child("message"), r.Message, "must not contain line breaks")
		case broken(rule) && message == "":
			e.Required(at.Child("message"), "message must be specified if rule contains line breaks")
		}
		if r.MessageExpression != "" && strings.TrimSpace(r.MessageExpression) == "" {
			e.Required(at.Child("messageExpression"), "messageExpression must be non-empty if specified")
		}
		if r.Reason != nil && !slices.Contains(ruleReasons, *r.Reason) {
			e.Add(field.NotSupported(at.Child("reason"), *r.Reason, ruleReasons))
		}
		if r.FieldPath == "" {
			continue
		}
		if strings.TrimSpace(r.FieldPath) == "" {
			e.Invalid(at.Child("fieldPath"), r.FieldPath, "must be non-empty if specified")
		}
		if broken(r.FieldPath) {
			e.Invalid(at.Child("fieldPath"), r.FieldPath, "must not contain line breaks")
		}
		if structural, err := structuralschema.NewStructural(s); err == nil {
			if _, _, err := cel.ValidFieldPath(r.FieldPath, structural); err != nil {
				e.Invalid(at.Child("fieldPath"), r.FieldPath, "must be a valid path")
			}
		}
	}
}

// RuleEnv implements cel.EnvLoader: expressions that were accepted before stay acceptable.
func (s scope) RuleEnv(set *environment.EnvSet, expression string) *celgo.Env {
	return envFor(set, s.rules[expression])
}

// MessageExpressionEnv implements cel.EnvLoader.
func (s scope) MessageExpressionEnv(set *environment.EnvSet, expression string) *celgo.Env {
	return envFor(set, s.messages[expression])
}

func envFor(set *environment.EnvSet, known bool) *celgo.Env {
	if known {
		return set.StoredExpressionsEnv()
	}
	return set.NewExpressionsEnv()
}

// checkRules compiles the rules of a schema and adds up what they may cost.
func (w *schemaCheck) checkRules(e *check.Errors, p place, s *apiextensions.JSONSchemaProps) {
	path := p.path.Child("x-kubernetes-validations")
	types, err := p.costs.declared()
	if err == nil && types == nil {
		err = errors.New("internal error: failed to retrieve type information for x-kubernetes-validations")
	}
	if err != nil {
		e.Internal(path, err)
		return
	}
	set := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	results, err := cel.Compile(types.schema, types.decl, celconfig.PerCallLimit, set, w.scope)
	if err != nil {
		e.Internal(path, err)
		return
	}
	for i, r := range results {
		w.checkResult(e, p, path.Index(i), s.XValidations[i], r)
	}
}

func (w *schemaCheck) checkResult(e *check.Errors, p place, path *field.Path, rule apiextensions.ValidationRule, r cel.CompilationResult) {
	at := path.Child("rule")
	w.charge(e, p, at, "estimated rule cost", p.costs.of(r))
	if r.Error != nil {
		if r.Error.Type == apiservercel.ErrorTypeRequired {
			e.Required(at, r.Error.Detail)
		} else {
			e.Invalid(at, rule, r.Error.Detail)
		}
	}
	if r.MessageExpressionError != nil {
		e.Invalid(path.Child("messageExpression"), rule, r.MessageExpressionError.Detail)
	} else if r.MessageExpression != nil {
		w.charge(e, p, path.Child("messageExpression"), "estimated messageExpression cost", r.MessageExpressionMaxCost)
	}
	if r.UsesOldSelf {
		if p.loose != nil {
			e.Invalidf(at, rule.Rule, "oldSelf cannot be used on the uncorrelatable portion of the schema within %v", p.loose)
		}
		return
	}
	if rule.OptionalOldSelf != nil {
		e.Invalid(path.Child("optionalOldSelf"), *rule.OptionalOldSelf, "may not be set if oldSelf is not used in rule")
	}
}

func (w *schemaCheck) charge(e *check.Errors, p place, path *field.Path, what string, cost uint64) {
	if !w.keepCosts && cost > maxRuleCost {
		e.Forbidden(path, tooExpensive(what, cost, maxRuleCost))
	}
	p.costs.total.add(path, cost)
}
