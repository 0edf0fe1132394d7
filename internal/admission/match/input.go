package match

import (
	"context"
	"fmt"

	"github.com/google/cel-go/common/types/ref"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/library"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/expression"
)

// Input makes what expressions see of a request in a form.
func (m *Matcher) Input(ctx context.Context, r *admission.Request, form *admission.Form, forms []admission.Form, az authorizer.Authorizer) (*expression.Input, error) {
	in := &expression.Input{Request: requestMap(r, form, &forms[0])}
	var err error
	if in.Object, err = content(form, r.Object); err != nil {
		return nil, err
	}
	if in.OldObject, err = content(form, r.OldObject); err != nil {
		return nil, err
	}
	if r.Namespace != "" && !isNamespace(r) {
		ns, err := m.Namespace(ctx, r.Namespace)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil {
			if in.Namespace, err = runtime.DefaultUnstructuredConverter.ToUnstructured(ns); err != nil {
				return nil, fmt.Errorf("show namespace %s to expressions: %w", r.Namespace, err)
			}
			trimNamespace(in.Namespace)
		}
	}
	if az != nil {
		u := &user.DefaultInfo{Name: r.User.Name, UID: r.User.UID, Groups: r.User.Groups, Extra: r.User.Extra}
		in.Authorizer = library.NewAuthorizerVal(u, az)
		in.RequestChecker = library.NewResourceAuthorizerVal(u, az, requested{r})
	}
	return in, nil
}

// trimNamespace leaves what is declared of a namespace.
func trimNamespace(ns map[string]any) {
	if metadata, ok := ns["metadata"].(map[string]any); ok {
		delete(metadata, "managedFields")
		delete(metadata, "ownerReferences")
	}
}

func content(form *admission.Form, o runtime.Object) (map[string]any, error) {
	if o == nil {
		return nil, nil
	}
	shown, err := form.Of(o)
	if err != nil {
		return nil, err
	}
	if u, ok := shown.(*unstructured.Unstructured); ok {
		return u.Object, nil
	}
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(shown)
	if err != nil {
		return nil, fmt.Errorf("show a %s to expressions: %w", form.Kind, err)
	}
	return out, nil
}

func kindMap(k schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": k.Group, "version": k.Version, "kind": k.Kind}
}

func resourceMap(r schema.GroupVersionResource) map[string]any {
	return map[string]any{"group": r.Group, "version": r.Version, "resource": r.Resource}
}

func requestMap(r *admission.Request, form, asked *admission.Form) map[string]any {
	extra := map[string]any{}
	for k, v := range r.User.Extra {
		extra[k] = v
	}
	out := map[string]any{
		"kind": kindMap(form.Kind), "resource": resourceMap(form.Resource), "requestKind": kindMap(asked.Kind), "requestResource": resourceMap(asked.Resource),
		"subResource": r.Subresource, "requestSubResource": r.Subresource, "name": r.Name, "namespace": r.Namespace, "operation": string(r.Operation), "dryRun": r.DryRun,
		"userInfo": map[string]any{"username": r.User.Name, "uid": r.User.UID, "groups": r.User.Groups, "extra": extra},
	}
	if r.Options != nil {
		if options, err := runtime.DefaultUnstructuredConverter.ToUnstructured(r.Options); err == nil {
			out["options"] = options
		}
	}
	return out
}

// requested is the resource of a request, for the authorizer of expressions.
type requested struct{ r *admission.Request }

func (q requested) GetName() string                          { return q.r.Name }
func (q requested) GetNamespace() string                     { return q.r.Namespace }
func (q requested) GetResource() schema.GroupVersionResource { return q.r.Resource }
func (q requested) GetSubresource() string                   { return q.r.Subresource }

// Conditions are compiled match conditions.
type Conditions struct {
	names       []string
	texts       []string
	expressions []*expression.Expression
	err         error
}

// Compile compiles match conditions. An error comes out when they are asked.
func Compile(conditions []admissionv1.MatchCondition, params bool) *Conditions {
	c := &Conditions{}
	if len(conditions) == 0 {
		return c
	}
	set, err := expression.NewSet(expression.Has{Params: params, Authorizer: true})
	if err != nil {
		c.err = err
		return c
	}
	for _, condition := range conditions {
		e, err := set.Compile(condition.Expression, expression.Bool)
		if err != nil {
			c.err = err
			return c
		}
		c.names, c.texts, c.expressions = append(c.names, condition.Name), append(c.texts, condition.Expression), append(c.expressions, e)
	}
	return c
}

// Empty tells whether there are none.
func (c *Conditions) Empty() bool { return len(c.expressions) == 0 && c.err == nil }

// met tells whether all conditions are. One that is false decides, whatever the others' errors.
func (c *Conditions) met(ctx context.Context, in *expression.Input) (bool, error) {
	if c.err != nil {
		return false, c.err
	}
	budget := expression.Budget(celconfig.RuntimeCELCostBudgetMatchConditions)
	var errs []error
	for i, e := range c.expressions {
		value, err := e.Eval(ctx, in, &budget)
		if err != nil {
			errs = append(errs, fmt.Errorf("expression '%v' resulted in error: %w", c.texts[i], err))
			continue
		}
		if !isTrue(value) {
			return false, nil
		}
	}
	if len(errs) > 0 {
		return false, utilerrors.NewAggregate(errs)
	}
	return true, nil
}

func isTrue(v ref.Val) bool {
	b, ok := v.Value().(bool)
	return ok && b
}
