package policy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/cel-go/common/types"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/admission/match"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/expression"
)

// Validating is the plugin ValidatingAdmissionPolicy. Make it with NewValidating.
type Validating struct {
	Config
	policies client.TypedView[*admissionv1.ValidatingAdmissionPolicy]
	bindings client.TypedView[*admissionv1.ValidatingAdmissionPolicyBinding]
	compiled compiled[*validator]
	checks   *checks
}

var _ admission.Validator = (*Validating)(nil)

// NewValidating returns the plugin.
func NewValidating(ctx context.Context, cfg Config) (*Validating, error) {
	p := &Validating{Config: cfg, checks: newChecks(cfg.Metrics, "validating_admission_policy",
		"Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
		"Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.",
		"enforcement_action", "error_type", "policy", "policy_binding")}
	gv, served := admissionv1.SchemeGroupVersion, cfg.Client.Kinds(ctx, nil)
	var err error
	if p.policies, err = client.ViewIfServed(ctx, cfg.Client, served, client.Kind[*admissionv1.ValidatingAdmissionPolicy]{GVR: gv.WithResource("validatingadmissionpolicies")}); err != nil {
		return nil, err
	}
	p.bindings, err = client.ViewIfServed(ctx, cfg.Client, served, client.Kind[*admissionv1.ValidatingAdmissionPolicyBinding]{GVR: gv.WithResource("validatingadmissionpolicybindings")})
	return p, err
}

// Name implements admission.Plugin.
func (*Validating) Name() string { return "ValidatingAdmissionPolicy" }

// A decision refuses a request.
type decision struct {
	policy, binding string // binding may be empty
	index           int    // of the validation
	reason          metav1.StatusReason
	message         string
	kind            string // of its error, for metrics
	ignored         bool   // an error that the policy lets pass
	took            time.Duration
}

func (d decision) Error() string {
	if d.binding == "" {
		return fmt.Sprintf("ValidatingAdmissionPolicy '%s' denied request: %s", d.policy, d.message)
	}
	return fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", d.policy, d.binding, d.message)
}

// Validate implements admission.Validator.
func (p *Validating) Validate(ctx context.Context, r *admission.Request) error {
	if match.Exempt(r) || r.Forms == nil {
		return nil
	}
	bindings := p.bindings.List("", nil)
	if len(bindings) == 0 {
		return nil
	}
	forms := r.Forms()
	var denied []decision
	for _, policy := range p.policies.List("", nil) {
		var own []*admissionv1.ValidatingAdmissionPolicyBinding
		for _, b := range bindings {
			if b.Spec.PolicyName == policy.Name {
				own = append(own, b)
			}
		}
		if len(own) > 0 {
			denied = append(denied, p.judge(ctx, r, forms, policy, own)...)
		}
	}
	if len(denied) == 0 {
		return nil
	}
	return refusal(r, denied[0].reason, denied[0].Error())
}

// judge runs one policy.
func (p *Validating) judge(ctx context.Context, r *admission.Request, forms []admission.Form, policy *admissionv1.ValidatingAdmissionPolicy, bindings []*admissionv1.ValidatingAdmissionPolicyBinding) (denied []decision) {
	strict := policy.Spec.FailurePolicy == nil || *policy.Spec.FailurePolicy == admissionv1.Fail
	broken := func(binding, what string, err error) {
		if strict {
			denied = append(denied, decision{policy: policy.Name, binding: binding, message: fmt.Sprintf("failed to configure %s: %v", what, err)})
		}
	}
	form, err := p.Matcher.Match(ctx, r, forms, criteria(policy.Spec.MatchConstraints))
	if err != nil {
		broken("", "policy", err)
		return denied
	}
	if form == nil {
		return nil
	}
	v := p.compiled.of(policy, func() *validator { return newValidator(policy) })
	notes := map[string][]string{}
	for _, b := range bindings {
		ok, err := p.bound(ctx, r, forms, b.Spec.MatchResources)
		if err != nil {
			broken(b.Name, "binding", err)
			continue
		}
		if !ok {
			continue
		}
		params, err := p.params(ctx, policy.Spec.ParamKind, b.Spec.ParamRef, namespaceOf(r))
		if errors.As(err, &errNoKind{}) {
			broken("", "policy", err)
			return denied
		}
		if err != nil {
			broken(b.Name, "binding", err)
			continue
		}
		for _, param := range params {
			in, err := p.Matcher.Input(ctx, r, form, forms, p.Authorizer)
			if err != nil {
				broken(b.Name, "binding", err)
				continue
			}
			in.Params = param
			met, err := p.Matcher.Met(ctx, v.conditions, in, match.Of{Name: policy.Name, Kind: "policy", Step: "validate", Operation: r.Operation})
			if err == nil && !met {
				continue
			}
			denied = append(denied, p.enforce(r, policy, b, v.run(ctx, in, err, strict, notes))...)
		}
	}
	for key, values := range notes {
		r.Annotate(policy.Name+"/"+key, strings.Join(values, ", "))
	}
	return denied
}

// enforce does with failed validations what a binding says, and returns those that it denies for.
func (p *Validating) enforce(r *admission.Request, policy *admissionv1.ValidatingAdmissionPolicy, b *admissionv1.ValidatingAdmissionPolicyBinding, failed []decision) (denied []decision) {
	for _, d := range failed {
		d.policy, d.binding = policy.Name, b.Name
		observe := func(action string) { p.checks.observe(d.took, action, d.kind, policy.Name, b.Name) }
		if d.ignored {
			observe("allow")
			continue
		}
		if d.index < 0 {
			observe("deny")
			denied = append(denied, d)
			continue
		}
		for _, action := range b.Spec.ValidationActions {
			observe(strings.ToLower(string(action)))
			switch action {
			case admissionv1.Deny:
				denied = append(denied, d)
			case admissionv1.Warn:
				r.Warn(fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", policy.Name, b.Name, d.message))
			case admissionv1.Audit:
				noteFailure(r, b, d)
			}
		}
	}
	return denied
}

func noteFailure(r *admission.Request, b *admissionv1.ValidatingAdmissionPolicyBinding, d decision) {
	text, err := json.Marshal([]struct {
		Message           string                         `json:"message"`
		Policy            string                         `json:"policy"`
		Binding           string                         `json:"binding"`
		ExpressionIndex   int                            `json:"expressionIndex"`
		ValidationActions []admissionv1.ValidationAction `json:"validationActions"`
	}{{d.message, d.policy, d.binding, d.index, b.Spec.ValidationActions}})
	if err == nil {
		r.Annotate("validation.policy.admission.k8s.io/validation_failure", string(text))
	}
}

// A validator is a compiled policy.
type validator struct {
	err         error
	conditions  *match.Conditions
	checks      []check
	annotations []annotation
}

type check struct {
	spec       admissionv1.Validation
	e, message *expression.Expression // message may be nil
}

type annotation struct {
	key string
	e   *expression.Expression
}

func newValidator(p *admissionv1.ValidatingAdmissionPolicy) *validator {
	v := &validator{conditions: match.Compile(p.Spec.MatchConditions, p.Spec.ParamKind != nil)}
	v.err = v.compile(p)
	return v
}

func (v *validator) compile(p *admissionv1.ValidatingAdmissionPolicy) error {
	set, err := newSet(expression.Has{Params: p.Spec.ParamKind != nil, Authorizer: true}, p.Spec.Variables)
	if err != nil {
		return err
	}
	messages, err := set.WithoutAuthorizer()
	if err != nil {
		return err
	}
	for _, spec := range p.Spec.Validations {
		c := check{spec: spec}
		if c.e, err = set.Compile(spec.Expression, expression.Bool); err != nil {
			return err
		}
		if spec.MessageExpression != "" {
			if c.message, err = messages.Compile(spec.MessageExpression, expression.String); err != nil {
				return err
			}
		}
		v.checks = append(v.checks, c)
	}
	for _, a := range p.Spec.AuditAnnotations {
		e, err := set.Compile(a.ValueExpression, expression.String, expression.Null)
		if err != nil {
			return err
		}
		v.annotations = append(v.annotations, annotation{a.Key, e})
	}
	return nil
}

// run evaluates a policy for one input that its conditions, whose error unmet is, let through. Errors count as failures if strict; those that
// don't are in the result, too. A decision of index -1 is not any validation's.
func (v *validator) run(ctx context.Context, in *expression.Input, unmet error, strict bool, notes map[string][]string) (failed []decision) {
	began := time.Now()
	fail := func(index int, err error) {
		if strict || index >= 0 {
			failed = append(failed, decision{index: index, message: err.Error(), kind: errorType(err.Error()), ignored: !strict, took: time.Since(began)})
		}
	}
	if err := cmp.Or(v.err, unmet); err != nil {
		fail(0, err)
		return failed
	}
	budget := expression.Budget(celconfig.RuntimeCELCostBudget)
	for i := range v.checks {
		c := &v.checks[i]
		began = time.Now()
		value, err := c.e.Eval(ctx, in, &budget)
		if err != nil {
			fail(i, fmt.Errorf("expression '%v' resulted in error: %w", c.spec.Expression, err))
			continue
		}
		if value != types.True {
			d := decision{index: i, reason: metav1.StatusReasonInvalid, message: c.text(ctx, in, &budget)}
			d.kind, d.took = errorType(d.message), time.Since(began)
			if c.spec.Reason != nil {
				d.reason = *c.spec.Reason
			}
			failed = append(failed, d)
		}
	}
	budget = expression.Budget(celconfig.RuntimeCELCostBudget)
	for _, a := range v.annotations {
		began = time.Now()
		value, err := a.e.Eval(ctx, in, &budget)
		if err != nil {
			fail(-1, fmt.Errorf("expression resulted in error: %w", err))
			continue
		}
		if text, ok := value.Value().(string); ok && strings.TrimSpace(text) != "" {
			text = strings.TrimSpace(text)
			notes[a.key] = append(notes[a.key], text[:min(len(text), maxAnnotation)])
		}
	}
	return failed
}

// maxAnnotation bounds what one expression adds to the audit log.
const maxAnnotation = 10 * 1024

// text is what a failed validation tells the client.
func (c *check) text(ctx context.Context, in *expression.Input, budget *expression.Budget) string {
	if c.message != nil {
		if value, err := c.message.Eval(ctx, in, budget); err == nil {
			text, ok := value.Value().(string)
			text = strings.TrimSpace(text)
			if ok && text != "" && len(text) <= celconfig.MaxEvaluatedMessageExpressionSizeBytes && !strings.Contains(text, "\n") {
				return text
			}
		}
	}
	if text := strings.TrimSpace(c.spec.Message); text != "" {
		return text
	}
	return "failed expression: " + strings.TrimSpace(c.spec.Expression)
}
