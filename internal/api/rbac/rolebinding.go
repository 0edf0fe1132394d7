package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1" // whose descriptions upstream prints
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// RoleBindings is the row of rbac.authorization.k8s.io/v1 RoleBinding.
var RoleBindings = api.Register(&api.Resource{
	Group:        rbacv1.GroupName,
	Name:         "rolebindings",
	Singular:     "rolebinding",
	Kind:         "RoleBinding",
	Namespaced:   true,
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[rbacv1.RoleBinding, rbacv1.RoleBindingList]("v1")},
	Prefix:       "rolebindings",

	Default: api.On(func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) }),
	Validate: api.Check(func(b *rbacv1.RoleBinding) check.Errors {
		return validateBinding(b.RoleRef, b.Subjects, []string{"Role", "ClusterRole"}, true)
	}),
	ValidateUpdate: api.CheckUpdate(func(b, old *rbacv1.RoleBinding) check.Errors {
		return validateBindingUpdate(b.RoleRef, old.RoleRef, b.Subjects, []string{"Role", "ClusterRole"}, true)
	}),
	NameRule:                 nameRule,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,

	Columns: bindingColumns("roleBinding", rbacv1beta1.RoleBinding{}.SwaggerDoc()["roleRef"]),
	Cells: api.Print(func(b *rbacv1.RoleBinding, p api.PrintOptions) []any {
		return bindingCells(b.ObjectMeta, b.RoleRef, b.Subjects, p)
	}),
})

// ClusterRoleBindings is the row of rbac.authorization.k8s.io/v1 ClusterRoleBinding.
var ClusterRoleBindings = api.Register(&api.Resource{
	Group:        rbacv1.GroupName,
	Name:         "clusterrolebindings",
	Singular:     "clusterrolebinding",
	Kind:         "ClusterRoleBinding",
	MetaOnUpdate: "NU",
	Versions:     []api.Version{api.Serve[rbacv1.ClusterRoleBinding, rbacv1.ClusterRoleBindingList]("v1")},
	Prefix:       "clusterrolebindings",

	Default: api.On(func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) }),
	Validate: api.Check(func(b *rbacv1.ClusterRoleBinding) check.Errors {
		return validateBinding(b.RoleRef, b.Subjects, []string{"ClusterRole"}, false)
	}),
	ValidateUpdate: api.CheckUpdate(func(b, old *rbacv1.ClusterRoleBinding) check.Errors {
		return validateBindingUpdate(b.RoleRef, old.RoleRef, b.Subjects, []string{"ClusterRole"}, false)
	}),
	NameRule:                 nameRule,
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,

	Columns: bindingColumns("clusterRoleBinding", rbacv1beta1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"]),
	Cells: api.Print(func(b *rbacv1.ClusterRoleBinding, p api.PrintOptions) []any {
		return bindingCells(b.ObjectMeta, b.RoleRef, b.Subjects, p)
	}),
})

func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i := range subjects {
		s := &subjects[i]
		if s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}

func validateBinding(ref rbacv1.RoleRef, subjects []rbacv1.Subject, kinds []string, namespaced bool) check.Errors {
	var errs check.Errors
	at := field.NewPath("roleRef")
	if ref.APIGroup != rbacv1.GroupName {
		errs.Add(field.NotSupported(at.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	if !slices.Contains(kinds, ref.Kind) {
		errs.Add(field.NotSupported(at.Child("kind"), ref.Kind, kinds))
	}
	if ref.Name == "" {
		errs.Required(at.Child("name"), "")
	} else {
		errs.Messages(at.Child("name"), ref.Name, nameRule(ref.Name, false))
	}
	for i, s := range subjects {
		errs = append(errs, validateSubject(s, namespaced, field.NewPath("subjects").Index(i))...)
	}
	return errs
}

func validateBindingUpdate(ref, old rbacv1.RoleRef, subjects []rbacv1.Subject, kinds []string, namespaced bool) check.Errors {
	errs := validateBinding(ref, subjects, kinds, namespaced)
	if ref != old {
		errs.Invalid(field.NewPath("roleRef"), shownRef(ref), "cannot change roleRef")
	}
	return errs
}

// shownRef is a RoleRef as upstream's messages show it: with the Go names of its fields.
type shownRef struct{ APIGroup, Kind, Name string }

func validateSubject(s rbacv1.Subject, namespaced bool, at *field.Path) check.Errors {
	var errs check.Errors
	if s.Name == "" {
		errs.Required(at.Child("name"), "")
	}
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			errs.Messages(at.Child("name"), s.Name, apivalidation.ValidateServiceAccountName(s.Name, false))
		}
		if s.APIGroup != "" {
			errs.Add(field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{""}))
		}
		if !namespaced && s.Namespace == "" {
			errs.Required(at.Child("namespace"), "")
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		if s.APIGroup != rbacv1.GroupName {
			errs.Add(field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{rbacv1.GroupName}))
		}
	default:
		errs.Add(field.NotSupported(at.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	return errs
}

func bindingColumns(kind, refDoc string) []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Role", "string", refDoc),
		api.AgeColumn,
		api.WideColumn("Users", "string", "Users in the "+kind),
		api.WideColumn("Groups", "string", "Groups in the "+kind),
		api.WideColumn("ServiceAccounts", "string", "ServiceAccounts in the "+kind),
	}
}

func bindingCells(meta metav1.ObjectMeta, ref rbacv1.RoleRef, subjects []rbacv1.Subject, p api.PrintOptions) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{meta.Name, ref.Kind + "/" + ref.Name, api.Age(meta.CreationTimestamp, p), strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", ")}
}
