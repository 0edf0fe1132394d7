package match

import (
	"context"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/client"
)

// Criteria say what a webhook or policy is about.
type Criteria struct {
	Rules, Exclude    []admissionv1.NamedRuleWithOperations
	Policy            *admissionv1.MatchPolicyType
	Namespace, Object *metav1.LabelSelector
}

// Matcher judges requests. Make it with New.
type Matcher struct {
	client     client.Client
	namespaces client.TypedView[*corev1.Namespace]
	metrics    *conditionMetrics
}

// New returns a matcher that works until ctx ends.
func New(ctx context.Context, c client.Client) (*Matcher, error) {
	view, err := client.Namespaces.View(ctx, c, client.Selection{})
	if err != nil {
		return nil, fmt.Errorf("view namespaces: %w", err)
	}
	return &Matcher{client: c, namespaces: view, metrics: newConditionMetrics()}, nil
}

// Exempt tells whether a request is about the configuration of admission itself, which must always be possible to repair.
func Exempt(r *admission.Request) bool {
	if r.Resource.Group != "admissionregistration.k8s.io" {
		return false
	}
	switch r.Resource.Resource {
	case "validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings",
		"mutatingadmissionpolicies", "mutatingadmissionpolicybindings":
		return true
	}
	return false
}

// Match returns the form in which the request meets the criteria, or nil. The first form is the requested one.
func (m *Matcher) Match(ctx context.Context, r *admission.Request, forms []admission.Form, c *Criteria) (*admission.Form, error) {
	form := c.form(r, forms)
	if form == nil {
		return nil, nil
	}
	ok, err := m.inNamespace(ctx, r, c.Namespace)
	if err != nil || !ok {
		return nil, err
	}
	ok, err = selects(c.Object, r.Object, r.OldObject)
	if err != nil || !ok {
		return nil, err
	}
	return form, nil
}

func (c *Criteria) form(r *admission.Request, forms []admission.Form) *admission.Form {
	for _, rule := range c.Exclude {
		if matches(&rule, r, &forms[0]) {
			return nil
		}
	}
	for _, rule := range c.Rules {
		if matches(&rule, r, &forms[0]) {
			return &forms[0]
		}
	}
	if c.Policy != nil && *c.Policy == admissionv1.Exact {
		return nil
	}
	for i := range forms[1:] {
		form := &forms[i+1]
		if slices.ContainsFunc(c.Exclude, func(rule admissionv1.NamedRuleWithOperations) bool { return matches(&rule, r, form) }) {
			return nil
		}
	}
	for _, rule := range c.Rules {
		for i := range forms[1:] {
			if form := &forms[i+1]; matches(&rule, r, form) {
				return form
			}
		}
	}
	return nil
}

func has[T ~string](list []T, value T) bool {
	return slices.Contains(list, "*") || slices.Contains(list, value)
}

func matches(rule *admissionv1.NamedRuleWithOperations, r *admission.Request, form *admission.Form) bool {
	if len(rule.ResourceNames) > 0 && !slices.Contains(rule.ResourceNames, r.Name) {
		return false
	}
	return has(rule.Operations, admissionv1.OperationType(r.Operation)) && has(rule.APIGroups, form.Resource.Group) && has(rule.APIVersions, form.Resource.Version) &&
		slices.ContainsFunc(rule.Resources, func(text string) bool { return matchesResource(text, form.Resource.Resource, r.Subresource) }) && inScope(rule.Scope, r)
}

func matchesResource(text, resource, subresource string) bool {
	want, sub, _ := strings.Cut(text, "/")
	return (want == "*" || want == resource) && (sub == "*" || sub == subresource)
}

// inScope: a namespace itself is of cluster scope, although its requests carry its name as their namespace.
func inScope(scope *admissionv1.ScopeType, r *admission.Request) bool {
	if scope == nil || *scope == admissionv1.AllScopes {
		return true
	}
	return (*scope == admissionv1.NamespacedScope) == (r.Namespace != "" && !isNamespace(r))
}

func isNamespace(r *admission.Request) bool {
	return r.Resource.Group == "" && r.Resource.Resource == "namespaces"
}

func (m *Matcher) inNamespace(ctx context.Context, r *admission.Request, selector *metav1.LabelSelector) (bool, error) {
	if empty(selector) || r.Namespace == "" {
		return true, nil
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	if isNamespace(r) && r.Subresource == "" && (r.Operation == admission.Create || r.Operation == admission.Update) {
		if ns, ok := r.Object.(*corev1.Namespace); ok {
			return s.Matches(labels.Set(ns.Labels)), nil
		}
	}
	ns, err := m.Namespace(ctx, r.Namespace)
	if err != nil {
		return false, err
	}
	return s.Matches(labels.Set(ns.Labels)), nil
}

// Namespace returns a namespace as the cache has it or, in case it is new, as the database has it.
func (m *Matcher) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	if ns, ok := m.namespaces.Get("", name); ok {
		return ns, nil
	}
	return client.Namespaces.Get(ctx, m.client, "", name)
}

func empty(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}

func selects(selector *metav1.LabelSelector, objects ...runtime.Object) (bool, error) {
	if empty(selector) {
		return true, nil
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	for _, o := range objects {
		if meta, ok := o.(metav1.Object); ok && s.Matches(labels.Set(meta.GetLabels())) {
			return true, nil
		}
	}
	return false, nil
}
