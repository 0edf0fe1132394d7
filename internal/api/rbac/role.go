package rbac

import (
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// Roles is the row of rbac.authorization.k8s.io/v1 Role.
var Roles = api.Register(&api.Resource{
	Group:        rbacv1.GroupName,
	Name:         "roles",
	Singular:     "role",
	Kind:         "Role",
	Namespaced:   true,
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[rbacv1.Role, rbacv1.RoleList]("v1")},
	Prefix:       "roles",

	Validate:                 api.Check(validateRole),
	ValidateUpdate:           api.CheckSame(validateRole),
	NameRule:                 nameRule,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,

	Columns: roleColumns,
	Cells:   roleCells,
})

// nameRule accepts whatever can be a part of a path: "system::x" is a role's name.
func nameRule(name string, _ bool) []string { return path.IsValidPathSegmentName(name) }

func validateRole(r *rbacv1.Role) check.Errors { return validateRules(r.Rules, true) }

func validateRules(rules []rbacv1.PolicyRule, namespaced bool) check.Errors {
	var errs check.Errors
	for i, rule := range rules {
		errs = append(errs, validateRule(rule, namespaced, field.NewPath("rules").Index(i))...)
	}
	return errs
}

func validateRule(r rbacv1.PolicyRule, namespaced bool, at *field.Path) check.Errors {
	var errs check.Errors
	if len(r.Verbs) == 0 {
		errs.Required(at.Child("verbs"), "verbs must contain at least one value")
	}
	if len(r.NonResourceURLs) > 0 {
		urls := at.Child("nonResourceURLs")
		if namespaced {
			errs.Invalid(urls, r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs")
		}
		if len(r.APIGroups) > 0 || len(r.Resources) > 0 || len(r.ResourceNames) > 0 {
			errs.Invalid(urls, r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs")
		}
		return errs
	}
	if len(r.APIGroups) == 0 {
		errs.Required(at.Child("apiGroups"), "resource rules must supply at least one api group")
	}
	if len(r.Resources) == 0 {
		errs.Required(at.Child("resources"), "resource rules must supply at least one resource")
	}
	return errs
}

// roleColumns tell when a role was made, as upstream prints kinds without columns of their own.
var roleColumns = []metav1.TableColumnDefinition{
	api.NameColumn,
	api.Column("Created At", "date", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]),
}

func roleCells(o api.Object, _ api.PrintOptions) []any {
	return []any{o.GetName(), o.GetCreationTimestamp().Time.UTC().Format(time.RFC3339)}
}
