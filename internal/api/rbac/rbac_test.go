package rbac

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
)

func TestValidation(t *testing.T) {
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "x"}
	for _, c := range []struct {
		name     string
		row      *api.Resource
		obj, old api.Object
		want     string // the first error; "" is none
	}{
		{"a rule without verbs", Roles, &rbacv1.Role{Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}}}}, nil, "rules[0].verbs: Required value: verbs must contain at least one value"},
		{"a rule without resources", Roles, &rbacv1.Role{Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}}}}, nil, "rules[0].resources: Required value: resource rules must supply at least one resource"},
		{"a role with paths", Roles, &rbacv1.Role{Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}}}}, nil, `rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs`},
		{"a cluster role with paths", ClusterRoles, &rbacv1.ClusterRole{Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}}}}, nil, ""},
		{"paths and resources together", ClusterRoles, &rbacv1.ClusterRole{Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}, Resources: []string{"pods"}}}}, nil, `rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs`},
		{"an empty aggregation rule", ClusterRoles, &rbacv1.ClusterRole{AggregationRule: &rbacv1.AggregationRule{}}, nil, "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"},
		{"an unknown kind of role", ClusterRoleBindings, &rbacv1.ClusterRoleBinding{RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "x"}}, nil, `roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"`},
		{"no role", RoleBindings, &rbacv1.RoleBinding{RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role"}}, nil, "roleRef.name: Required value"},
		{"another role", RoleBindings, &rbacv1.RoleBinding{RoleRef: ref}, &rbacv1.RoleBinding{}, `roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"x"}: cannot change roleRef`},
		{"an account without a namespace", ClusterRoleBindings, &rbacv1.ClusterRoleBinding{RoleRef: ref, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "a"}}}, nil, "subjects[0].namespace: Required value"},
		{"an account without one in a namespace", RoleBindings, &rbacv1.RoleBinding{RoleRef: ref, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "a"}}}, nil, ""},
		{"an unknown kind of subject", RoleBindings, &rbacv1.RoleBinding{RoleRef: ref, Subjects: []rbacv1.Subject{{Kind: "Robot", Name: "a"}}}, nil, `subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			errs := c.row.Validate(c.obj)
			if c.old != nil {
				errs = c.row.ValidateUpdate(c.obj, c.old)
			}
			got := ""
			if len(errs) > 0 {
				got = errs[0].Error()
			}
			if got != c.want {
				t.Errorf("got %s", errs.ToAggregate())
			}
		})
	}
}

func TestDefaultsNameTheGroup(t *testing.T) {
	b := &rbacv1.RoleBinding{Subjects: []rbacv1.Subject{{Kind: "User", Name: "u"}, {Kind: "ServiceAccount", Name: "s"}}}
	RoleBindings.Default(b)
	if b.RoleRef.APIGroup != rbacv1.GroupName || b.Subjects[0].APIGroup != rbacv1.GroupName || b.Subjects[1].APIGroup != "" {
		t.Errorf("got %+v", b)
	}
}

func TestCellsFollowColumns(t *testing.T) {
	b := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "x"}, Subjects: []rbacv1.Subject{
		{Kind: "User", Name: "u"}, {Kind: "User", Name: "v"}, {Kind: "Group", Name: "g"}, {Kind: "ServiceAccount", Namespace: "ns", Name: "s"},
	}}
	cells := ClusterRoleBindings.Cells(b, api.PrintOptions{})
	want := []any{"b", "ClusterRole/x", "<unknown>", "u, v", "g", "ns/s"}
	if len(cells) != len(ClusterRoleBindings.Columns) {
		t.Fatalf("%d cells", len(cells))
	}
	for i := range want {
		if cells[i] != want[i] {
			t.Errorf("cell %d is %v", i, cells[i])
		}
	}
}
