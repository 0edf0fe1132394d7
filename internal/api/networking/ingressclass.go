package networking

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

const maxController = 250

// IngressClasses is the row of networking.k8s.io/v1 IngressClass.
var IngressClasses = api.Register(&api.Resource{
	Group:        networkingv1.GroupName,
	Name:         "ingressclasses",
	Singular:     "ingressclass",
	Kind:         "IngressClass",
	MetaOnUpdate: "UN",
	Versions:     []api.Version{api.Serve[networkingv1.IngressClass, networkingv1.IngressClassList]("v1")},
	Prefix:       "ingressclasses",

	Default: api.On(func(c *networkingv1.IngressClass) {
		if p := c.Spec.Parameters; p != nil && p.Scope == nil {
			scope := networkingv1.IngressClassParametersReferenceScopeCluster
			p.Scope = &scope
		}
	}),
	Validate: api.Check(validateIngressClass),
	ValidateUpdate: api.CheckUpdate(func(n, o *networkingv1.IngressClass) (e check.Errors) {
		e.Unchanged(field.NewPath("spec", "controller"), n.Spec.Controller, o.Spec.Controller)
		e.Add(validateIngressClass(n)...)
		return e
	}),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged: func(n, o api.Object) bool {
		return !equality.Semantic.DeepEqual(n.(*networkingv1.IngressClass).Spec, o.(*networkingv1.IngressClass).Spec)
	},

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Controller", "string", "Controller that is responsible for handling this class"),
		api.Column("Parameters", "string", "A reference to a resource with additional parameters"),
		api.AgeColumn,
	},
	Cells: api.Print(func(c *networkingv1.IngressClass, p api.PrintOptions) []any {
		name, parameters := c.Name, "<none>"
		if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			name += " (default)"
		}
		if to := c.Spec.Parameters; to != nil {
			parameters = to.Kind
			if to.APIGroup != nil {
				parameters += "." + *to.APIGroup
			}
			parameters += "/" + to.Name
		}
		return []any{name, c.Spec.Controller, parameters, api.Age(c.CreationTimestamp, p)}
	}),
})

func validateIngressClass(c *networkingv1.IngressClass) (e check.Errors) {
	spec := field.NewPath("spec")
	if len(c.Spec.Controller) > maxController {
		e.TooLong(spec.Child("controller"), maxController)
	}
	e.Add(validation.IsDomainPrefixedPath(spec.Child("controller"), c.Spec.Controller)...)
	p, at := c.Spec.Parameters, spec.Child("parameters")
	if p == nil {
		return e
	}
	e.Add(validateReference(&corev1.TypedLocalObjectReference{APIGroup: p.APIGroup, Kind: p.Kind, Name: p.Name}, at)...)
	if p.Scope == nil {
		e.Required(at.Child("scope"), "")
		return e
	}
	at = at.Child("namespace")
	switch *p.Scope {
	case networkingv1.IngressClassParametersReferenceScopeNamespace:
		if p.Namespace == nil {
			e.Required(at, "`parameters.scope` is set to 'Namespace'")
		} else {
			e.Messages(at, *p.Namespace, apivalidation.ValidateNamespaceName(*p.Namespace, false))
		}
	case networkingv1.IngressClassParametersReferenceScopeCluster:
		if p.Namespace != nil {
			e.Forbidden(at, "`parameters.scope` is set to 'Cluster'")
		}
	default:
		supported := []string{networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace}
		e.Add(field.NotSupported(spec.Child("parameters", "scope"), *p.Scope, supported))
	}
	return e
}
