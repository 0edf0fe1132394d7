package policy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/admission/match"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/expression"
)

// Config says what the plugins work with. All fields are required.
type Config struct {
	Client     client.Client // the engine's own
	Matcher    *match.Matcher
	Authorizer authorizer.Authorizer
	// Merge applies an object's fields, of the kind that they name, to another object by the kind's schema.
	Merge func(original, patch *unstructured.Unstructured) (*unstructured.Unstructured, error)
	// Metrics takes the plugins' metrics; nil is none.
	Metrics prometheus.Registerer
}

// compiled keeps what policies compile to, by name, as long as they are as they were.
type compiled[T any] struct {
	mu   sync.Mutex
	made map[string]made[T]
}

type made[T any] struct {
	version string
	value   T
}

func (c *compiled[T]) of(o client.Object, compile func() T) T {
	version := string(o.GetUID()) + "/" + o.GetResourceVersion()
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.made[o.GetName()]; ok && m.version == version {
		return m.value
	}
	if c.made == nil || len(c.made) > maxCompiled {
		c.made = map[string]made[T]{}
	}
	value := compile()
	c.made[o.GetName()] = made[T]{version, value}
	return value
}

// maxCompiled bounds the policies that are kept compiled; those that are gone leave when it is reached.
const maxCompiled = 1024

// newSet makes what a policy's expressions are compiled in.
func newSet(has expression.Has, variables []admissionv1.Variable) (*expression.Set, error) {
	set, err := expression.NewSet(has)
	if err != nil {
		return nil, err
	}
	for _, v := range variables {
		if err := set.Declare(v.Name, v.Expression); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func criteria(m *admissionv1.MatchResources) *match.Criteria {
	if m == nil {
		return nil
	}
	return &match.Criteria{Rules: m.ResourceRules, Exclude: m.ExcludeResourceRules, Policy: m.MatchPolicy, Namespace: m.NamespaceSelector, Object: m.ObjectSelector}
}

// bound tells whether a binding that narrows its policy is about a request. One without rules takes the policy's.
func (c *Config) bound(ctx context.Context, r *admission.Request, forms []admission.Form, m *admissionv1.MatchResources) (bool, error) {
	if m == nil {
		return true, nil
	}
	want := criteria(m)
	if len(want.Rules) == 0 {
		want.Rules = []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{"*"}, Rule: admissionv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*/*"}},
		}}}
	}
	form, err := c.Matcher.Match(ctx, r, forms, want)
	return form != nil, err
}

// errNoKind is a policy's fault, not its binding's.
type errNoKind struct{ kind schema.GroupVersionKind }

func (e errNoKind) Error() string {
	return fmt.Sprintf("failed to find resource referenced by paramKind: '%v'", e.kind)
}

// params returns the objects that a binding has its policy run with; one nil is a run without.
func (c *Config) params(ctx context.Context, kind *admissionv1.ParamKind, ref *admissionv1.ParamRef, namespace string) ([]map[string]any, error) {
	if kind == nil {
		return []map[string]any{nil}, nil
	}
	info, ok := c.find(ctx, kind)
	if !ok {
		return nil, errNoKind{schema.FromAPIVersionAndKind(kind.APIVersion, kind.Kind)}
	}
	if ref == nil {
		return []map[string]any{nil}, nil
	}
	if info.Namespaced {
		if ref.Namespace != "" {
			namespace = ref.Namespace
		} else if namespace == "" {
			return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
		}
	} else {
		if ref.Namespace != "" {
			return nil, errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
		}
		namespace = ""
	}
	objects, err := c.lookup(ctx, info.GroupVersionResource, ref, namespace)
	if err != nil {
		return nil, err
	}
	if len(objects) == 0 && ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionv1.DenyAction {
		return nil, errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")
	}
	out := make([]map[string]any, len(objects))
	for i, o := range objects {
		if out[i], err = paramContent(o, kind); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *Config) find(ctx context.Context, kind *admissionv1.ParamKind) (client.KindInfo, bool) {
	want := schema.FromAPIVersionAndKind(kind.APIVersion, kind.Kind)
	for _, k := range c.Client.Kinds(ctx, nil) {
		if k.Kind == want.Kind && k.GroupVersionResource.Group == want.Group {
			k.GroupVersionResource.Version = want.Version
			return k, true
		}
	}
	return client.KindInfo{}, false
}

func (c *Config) lookup(ctx context.Context, gvr schema.GroupVersionResource, ref *admissionv1.ParamRef, namespace string) ([]client.Object, error) {
	view, err := c.Client.View(ctx, gvr, client.Selection{})
	if err != nil {
		return nil, err
	}
	if ref.Name != "" {
		if o, ok := view.Get(namespace, ref.Name); ok {
			return []client.Object{o}, nil
		}
		return nil, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(ref.Selector)
	if err != nil {
		return nil, err
	}
	return view.List(namespace, selector), nil
}

func paramContent(o client.Object, kind *admissionv1.ParamKind) (map[string]any, error) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		return u.Object, nil
	}
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("show a parameter to expressions: %w", err)
	}
	out["apiVersion"], out["kind"] = kind.APIVersion, kind.Kind
	return out, nil
}

// namespaceOf is a request's namespace for parameters; a namespace itself lies in none.
func namespaceOf(r *admission.Request) string {
	if r.Resource.Group == "" && r.Resource.Resource == "namespaces" {
		return ""
	}
	return r.Namespace
}

// failure is a refusal as upstream's mutating policies word it: forbidden, invalid, and by its message alone.
func failure(r *admission.Request, message string) error {
	err := refusal(r, "", message)
	var status *apierrors.StatusError
	if errors.As(err, &status) {
		status.ErrStatus.Code, status.ErrStatus.Message = http.StatusForbidden, message
	}
	return err
}

// refusal is the error of a policy that denies a request.
func refusal(r *admission.Request, reason metav1.StatusReason, message string) error {
	err := apierrors.NewForbidden(r.Resource.GroupResource(), r.Name, errors.New(message))
	if reason == "" {
		reason = metav1.StatusReasonInvalid
	}
	err.ErrStatus.Reason = reason
	err.ErrStatus.Code = map[metav1.StatusReason]int32{
		metav1.StatusReasonForbidden: 403, metav1.StatusReasonUnauthorized: 401, metav1.StatusReasonRequestEntityTooLarge: 413,
	}[reason]
	if err.ErrStatus.Code == 0 {
		err.ErrStatus.Code = 422
	}
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Message: message})
	return err
}
