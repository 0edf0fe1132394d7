package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// ClusterRoles is the row of rbac.authorization.k8s.io/v1 ClusterRole.
var ClusterRoles = api.Register(&api.Resource{
	Group:        rbacv1.GroupName,
	Name:         "clusterroles",
	Singular:     "clusterrole",
	Kind:         "ClusterRole",
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[rbacv1.ClusterRole, rbacv1.ClusterRoleList]("v1")},
	Prefix:       "clusterroles",

	Validate:                 api.Check(func(r *rbacv1.ClusterRole) check.Errors { return validateClusterRole(r, false) }),
	ValidateUpdate:           api.CheckUpdate(validateClusterRoleUpdate),
	NameRule:                 nameRule,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,

	Columns: roleColumns,
	Cells:   roleCells,
})

func validateClusterRole(r *rbacv1.ClusterRole, tolerateValues bool) check.Errors {
	errs := validateRules(r.Rules, false)
	if r.AggregationRule == nil {
		return errs
	}
	at := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		errs.Required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil")
	}
	opts := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: tolerateValues}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		s := &r.AggregationRule.ClusterRoleSelectors[i]
		errs.Add(metav1validation.ValidateLabelSelector(s, opts, at.Index(i))...)
		if selector, err := metav1.LabelSelectorAsSelector(s); err != nil {
			errs.Invalid(at.Index(i), selector, "invalid label selector.")
		}
	}
	return errs
}

// validateClusterRoleUpdate tolerates an invalid label value that was there before.
func validateClusterRoleUpdate(r, old *rbacv1.ClusterRole) check.Errors {
	return validateClusterRole(r, hasInvalidSelectorValue(old.AggregationRule))
}

func hasInvalidSelectorValue(a *rbacv1.AggregationRule) bool {
	if a == nil {
		return false
	}
	for i := range a.ClusterRoleSelectors {
		strict := metav1validation.ValidateLabelSelector(&a.ClusterRoleSelectors[i], metav1validation.LabelSelectorValidationOptions{}, nil)
		lax := metav1validation.ValidateLabelSelector(&a.ClusterRoleSelectors[i], metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: true}, nil)
		if len(strict) > len(lax) {
			return true
		}
	}
	return false
}
