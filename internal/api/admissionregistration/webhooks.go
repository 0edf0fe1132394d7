package admissionregistration

import (
	"reflect"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/webhooks"
)

const group = "admissionregistration.k8s.io"

var hookColumns = []metav1.TableColumnDefinition{
	api.NameColumn, api.Column("Webhooks", "integer", "Webhooks indicates the number of webhooks registered in this configuration"), api.AgeColumn,
}

// MutatingWebhookConfigurations is the row of admissionregistration.k8s.io/v1 MutatingWebhookConfiguration.
var MutatingWebhookConfigurations = api.Register(&api.Resource{
	Group: group, Name: "mutatingwebhookconfigurations", Singular: "mutatingwebhookconfiguration", Kind: "MutatingWebhookConfiguration",
	Categories:   []string{"api-extensions"},
	AnyFinalizer: true,
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[admissionv1.MutatingWebhookConfiguration, admissionv1.MutatingWebhookConfigurationList]("v1")},
	Prefix:       "mutatingwebhookconfigurations",

	Default:        api.On(defaultMutating),
	Validate:       api.Check(func(c *admissionv1.MutatingWebhookConfiguration) check.Errors { return validateMutating(c, nil) }),
	ValidateUpdate: api.CheckUpdate(validateMutating),
	HasGeneration:  true,
	SpecChanged: func(o, old api.Object) bool {
		return !reflect.DeepEqual(o.(*admissionv1.MutatingWebhookConfiguration).Webhooks, old.(*admissionv1.MutatingWebhookConfiguration).Webhooks)
	},
	Columns: hookColumns,
	Cells: api.Print(func(c *admissionv1.MutatingWebhookConfiguration, p api.PrintOptions) []any {
		return []any{c.Name, int64(len(c.Webhooks)), api.Age(c.CreationTimestamp, p)}
	}),
})

// ValidatingWebhookConfigurations is the row of admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration.
var ValidatingWebhookConfigurations = api.Register(&api.Resource{
	Group: group, Name: "validatingwebhookconfigurations", Singular: "validatingwebhookconfiguration", Kind: "ValidatingWebhookConfiguration",
	Categories:   []string{"api-extensions"},
	AnyFinalizer: true,
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[admissionv1.ValidatingWebhookConfiguration, admissionv1.ValidatingWebhookConfigurationList]("v1")},
	Prefix:       "validatingwebhookconfigurations",

	Default:        api.On(defaultValidating),
	Validate:       api.Check(func(c *admissionv1.ValidatingWebhookConfiguration) check.Errors { return validateValidating(c, nil) }),
	ValidateUpdate: api.CheckUpdate(validateValidating),
	HasGeneration:  true,
	SpecChanged: func(o, old api.Object) bool {
		return !reflect.DeepEqual(o.(*admissionv1.ValidatingWebhookConfiguration).Webhooks, old.(*admissionv1.ValidatingWebhookConfiguration).Webhooks)
	},
	Columns: hookColumns,
	Cells: api.Print(func(c *admissionv1.ValidatingWebhookConfiguration, p api.PrintOptions) []any {
		return []any{c.Name, int64(len(c.Webhooks)), api.Age(c.CreationTimestamp, p)}
	}),
})

func setDefault[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

func defaultMutating(c *admissionv1.MutatingWebhookConfiguration) {
	for i := range c.Webhooks {
		h := &c.Webhooks[i]
		setDefault(&h.FailurePolicy, admissionv1.Fail)
		setDefault(&h.MatchPolicy, admissionv1.Equivalent)
		setDefault(&h.NamespaceSelector, metav1.LabelSelector{})
		setDefault(&h.ObjectSelector, metav1.LabelSelector{})
		setDefault(&h.TimeoutSeconds, 10)
		setDefault(&h.ReinvocationPolicy, admissionv1.NeverReinvocationPolicy)
		defaultCall(&h.ClientConfig, h.Rules)
	}
}

func defaultValidating(c *admissionv1.ValidatingWebhookConfiguration) {
	for i := range c.Webhooks {
		h := &c.Webhooks[i]
		setDefault(&h.FailurePolicy, admissionv1.Fail)
		setDefault(&h.MatchPolicy, admissionv1.Equivalent)
		setDefault(&h.NamespaceSelector, metav1.LabelSelector{})
		setDefault(&h.ObjectSelector, metav1.LabelSelector{})
		setDefault(&h.TimeoutSeconds, 10)
		defaultCall(&h.ClientConfig, h.Rules)
	}
}

func defaultCall(c *admissionv1.WebhookClientConfig, rules []admissionv1.RuleWithOperations) {
	if c.Service != nil {
		setDefault(&c.Service.Port, 443)
	}
	for i := range rules {
		setDefault(&rules[i].Scope, admissionv1.AllScopes)
	}
}

// hook is what both kinds of webhooks have.
type hook struct {
	name              string
	config            admissionv1.WebhookClientConfig
	rules             []admissionv1.RuleWithOperations
	failure           *admissionv1.FailurePolicyType
	match             *admissionv1.MatchPolicyType
	namespace, object *metav1.LabelSelector
	effects           *admissionv1.SideEffectClass
	timeout           *int32
	versions          []string
	conditions        []admissionv1.MatchCondition
	reinvocation      *admissionv1.ReinvocationPolicyType // of mutating ones
}

func mutatingHooks(c *admissionv1.MutatingWebhookConfiguration) (out []hook) {
	for i := range c.Webhooks {
		h := &c.Webhooks[i]
		out = append(out, hook{
			h.Name, h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.NamespaceSelector, h.ObjectSelector, h.SideEffects, h.TimeoutSeconds,
			h.AdmissionReviewVersions, h.MatchConditions, h.ReinvocationPolicy,
		})
	}
	return out
}

func validatingHooks(c *admissionv1.ValidatingWebhookConfiguration) (out []hook) {
	for i := range c.Webhooks {
		h := &c.Webhooks[i]
		out = append(out, hook{
			h.Name, h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.NamespaceSelector, h.ObjectSelector, h.SideEffects, h.TimeoutSeconds,
			h.AdmissionReviewVersions, h.MatchConditions, nil,
		})
	}
	return out
}

func validateMutating(c, old *admissionv1.MutatingWebhookConfiguration) check.Errors {
	hooks := mutatingHooks(c)
	if old == nil {
		return checkHooks(hooks, tolerance{})
	}
	return checkHooks(hooks, toleranceOf(hooks, mutatingHooks(old)))
}

func validateValidating(c, old *admissionv1.ValidatingWebhookConfiguration) check.Errors {
	hooks := validatingHooks(c)
	if old == nil {
		return checkHooks(hooks, tolerance{})
	}
	return checkHooks(hooks, toleranceOf(hooks, validatingHooks(old)))
}

func checkHooks(hooks []hook, may tolerance) (e check.Errors) {
	seen := map[string]bool{}
	for i := range hooks {
		h, path := &hooks[i], field.NewPath("webhooks").Index(i)
		h.check(&e, path, may)
		h.checkVersions(&e, path.Child("admissionReviewVersions"), may.versions)
		if h.name != "" && seen[h.name] && !may.names {
			e.Duplicate(path.Child("name"), h.name)
		}
		seen[h.name] = true
	}
	return e
}

func (h *hook) check(e *check.Errors, path *field.Path, may tolerance) {
	e.Add(validation.IsFullyQualifiedName(path.Child("name"), h.name)...)
	for i := range h.rules {
		checkRule(e, path.Child("rules").Index(i), &h.rules[i])
	}
	if h.failure != nil {
		check.OneOf(e, path.Child("failurePolicy"), *h.failure, admissionv1.Fail, admissionv1.Ignore)
	}
	if h.match != nil {
		check.OneOf(e, path.Child("matchPolicy"), *h.match, admissionv1.Equivalent, admissionv1.Exact)
	}
	h.checkEffects(e, path.Child("sideEffects"), may.effects)
	if t := h.timeout; t != nil && (*t < 1 || *t > 30) {
		e.Invalid(path.Child("timeoutSeconds"), *t, "the timeout value must be between 1 and 30 seconds")
	}
	labels := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: may.labels}
	e.Add(metav1validation.ValidateLabelSelector(h.namespace, labels, path.Child("namespaceSelector"))...)
	e.Add(metav1validation.ValidateLabelSelector(h.object, labels, path.Child("objectSelector"))...)
	if h.reinvocation != nil {
		check.OneOf(e, path.Child("reinvocationPolicy"), *h.reinvocation, admissionv1.IfNeededReinvocationPolicy, admissionv1.NeverReinvocationPolicy)
	}
	at := path.Child("clientConfig")
	switch c := h.config; {
	case (c.URL == nil) == (c.Service == nil):
		e.Required(at, "exactly one of url or service is required")
	case c.URL != nil:
		e.Add(webhooks.URL(at.Child("url"), *c.URL)...)
	default:
		// Upstream has the two the wrong way round here, and reports the absence of one as the other's.
		e.Add(webhooks.Service(at.Child("service"), c.Service.Name, c.Service.Namespace, c.Service.Path, *c.Service.Port)...)
	}
	if !may.conditions {
		checkConditions(e, path.Child("matchConditions"), h.conditions, false)
	}
}

// Side effects: those that may be given, and with them those that v1beta1 allowed.
var (
	harmless    = []admissionv1.SideEffectClass{admissionv1.SideEffectClassNone, admissionv1.SideEffectClassNoneOnDryRun}
	sideEffects = append(slices.Clone(harmless), admissionv1.SideEffectClassSome, admissionv1.SideEffectClassUnknown)
)

func (h *hook) checkEffects(e *check.Errors, path *field.Path, any bool) {
	allowed, text := harmless, "must specify one of None, NoneOnDryRun"
	if any {
		allowed, text = sideEffects, "must specify one of None, NoneOnDryRun, Some, Unknown"
	}
	if h.effects == nil {
		e.Required(path, text)
		return
	}
	check.OneOf(e, path, *h.effects, allowed...)
}

func (h *hook) checkVersions(e *check.Errors, path *field.Path, unknown bool) {
	if len(h.versions) == 0 {
		e.Required(path, "must specify one of v1, v1beta1")
		return
	}
	seen := map[string]bool{}
	for i, v := range h.versions {
		if seen[v] {
			e.Invalid(path.Index(i), v, "duplicate version")
			continue
		}
		seen[v] = true
		e.Messages(path.Index(i), v, validation.IsDNS1035Label(v))
	}
	if !unknown && !h.speaks() {
		e.Invalid(path, h.versions, "must include at least one of v1, v1beta1")
	}
}

// speaks tells whether a webhook accepts reviews of a version that is sent.
func (h *hook) speaks() bool {
	return slices.ContainsFunc(h.versions, func(v string) bool { return v == "v1" || v == "v1beta1" })
}
