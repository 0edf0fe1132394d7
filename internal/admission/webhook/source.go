package webhook

import (
	"context"
	"fmt"
	"sync"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/admission/match"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/hook"
)

// A registered webhook.
type registered struct {
	configuration, name string
	key                 string // tells webhooks of all configurations apart
	target              hook.Target
	criteria            match.Criteria
	conditions          *match.Conditions
	ignore              bool // failures
	effects             *admissionv1.SideEffectClass
	timeout             int32
	reviewVersion       string
	reinvoke            bool
}

// common is what both plugins need.
type common struct {
	matcher    *match.Matcher
	authorizer authorizer.Authorizer
	call       func(ctx context.Context, h *registered, in, out hook.Review) error
	metrics    *metrics
	step       string

	mu   sync.Mutex
	made map[string]configuration // by name
}

type configuration struct {
	version string // UID and resourceVersion
	hooks   []*registered
}

// hooksOf returns the webhooks of the configurations, which come in the order of their names.
func hooksOf[T client.Object](c *common, view client.TypedView[T], read func(T) []*registered) []*registered {
	all := view.List("", nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil || len(c.made) > 2*len(all)+16 {
		c.made = map[string]configuration{}
	}
	var out []*registered
	for _, one := range all {
		version := string(one.GetUID()) + "/" + one.GetResourceVersion()
		known, ok := c.made[one.GetName()]
		if !ok || known.version != version {
			known = configuration{version, read(one)}
			c.made[one.GetName()] = known
		}
		out = append(out, known.hooks...)
	}
	return out
}

func ofMutating(c *admissionv1.MutatingWebhookConfiguration) []*registered {
	var out []*registered
	for i := range c.Webhooks {
		h := &c.Webhooks[i]
		one := newRegistered(c.Name, i, h.Name, h.ClientConfig, h.Rules, h.MatchPolicy, h.NamespaceSelector, h.ObjectSelector, h.FailurePolicy, h.SideEffects,
			h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions)
		one.reinvoke = h.ReinvocationPolicy != nil && *h.ReinvocationPolicy == admissionv1.IfNeededReinvocationPolicy
		out = append(out, one)
	}
	return out
}

func ofValidating(c *admissionv1.ValidatingWebhookConfiguration) []*registered {
	var out []*registered
	for i := range c.Webhooks {
		h := &c.Webhooks[i]
		out = append(out, newRegistered(c.Name, i, h.Name, h.ClientConfig, h.Rules, h.MatchPolicy, h.NamespaceSelector, h.ObjectSelector, h.FailurePolicy, h.SideEffects,
			h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions))
	}
	return out
}

func newRegistered(configuration string, i int, name string, c admissionv1.WebhookClientConfig, rules []admissionv1.RuleWithOperations, policy *admissionv1.MatchPolicyType,
	namespace, object *metav1.LabelSelector, failure *admissionv1.FailurePolicyType, effects *admissionv1.SideEffectClass, timeout *int32, versions []string,
	conditions []admissionv1.MatchCondition,
) *registered {
	h := &registered{
		configuration: configuration, name: name, key: fmt.Sprintf("%s/%s/%d", configuration, name, i),
		target:     hook.Target{CABundle: c.CABundle},
		criteria:   match.Criteria{Policy: policy, Namespace: namespace, Object: object},
		conditions: match.Compile(conditions, false),
		ignore:     failure != nil && *failure == admissionv1.Ignore,
		effects:    effects, timeout: 10,
	}
	for _, r := range rules {
		h.criteria.Rules = append(h.criteria.Rules, admissionv1.NamedRuleWithOperations{RuleWithOperations: r})
	}
	if timeout != nil {
		h.timeout = *timeout
	}
	if c.URL != nil {
		h.target.URL = *c.URL
	}
	if s := c.Service; s != nil {
		h.target.Service = &hook.Service{Namespace: s.Namespace, Name: s.Name, Port: 443}
		if s.Port != nil {
			h.target.Service.Port = *s.Port
		}
		if s.Path != nil {
			h.target.Service.Path = *s.Path
		}
	}
	for _, v := range versions {
		if v == "v1" || v == "v1beta1" {
			h.reviewVersion = v
			break
		}
	}
	return h
}

// wants returns the form in which a webhook is to be asked about a request, or nil.
func (c *common) wants(ctx context.Context, r *admission.Request, forms []admission.Form, h *registered) (*admission.Form, error) {
	form, err := c.matcher.Match(ctx, r, forms, &h.criteria)
	if err != nil || form == nil || h.conditions.Empty() {
		return form, err
	}
	in, err := c.matcher.Input(ctx, r, form, forms, c.authorizer)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	met, err := c.matcher.Met(ctx, h.conditions, in, match.Of{Name: h.name, Kind: "webhook", Step: c.step, Operation: r.Operation})
	if err != nil && !h.ignore {
		return nil, apierrors.NewForbidden(r.Resource.GroupResource(), r.Name, err)
	}
	if err != nil || !met {
		return nil, nil
	}
	return form, nil
}
