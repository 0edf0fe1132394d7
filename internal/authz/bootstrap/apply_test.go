package bootstrap

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/authz/rbac"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
)

func fresh() *clienttest.Client {
	c := clienttest.New()
	var kinds []client.KindInfo
	for _, gvr := range []schema.GroupVersionResource{
		{Version: "v1", Resource: "namespaces"},
		{Group: rbacv1.GroupName, Version: "v1", Resource: "clusterroles"},
		{Group: rbacv1.GroupName, Version: "v1", Resource: "clusterrolebindings"},
		{Group: rbacv1.GroupName, Version: "v1", Resource: "roles"},
		{Group: rbacv1.GroupName, Version: "v1", Resource: "rolebindings"},
		{Group: "scheduling.k8s.io", Version: "v1", Resource: "priorityclasses"},
	} {
		kinds = append(kinds, client.KindInfo{GroupVersionResource: gvr})
	}
	c.Serve(kinds)
	return c
}

func TestAFirstStartWritesEverythingAndASecondNothing(t *testing.T) {
	ctx, c := t.Context(), fresh()
	az, err := rbac.New(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(ctx, c, az); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Writes()); n != 4+69+1+50+4+7+7+2 {
		t.Errorf("%d writes", n)
	}
	before := len(c.Writes())
	if err := Apply(ctx, c, az); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Writes()); n != before {
		t.Errorf("the second start wrote %v", c.Writes()[before:])
	}
}

func TestBootstrapRolesAllowWhatTheyDoUpstream(t *testing.T) {
	ctx, c := t.Context(), fresh()
	az, err := rbac.New(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(ctx, c, az); err != nil {
		t.Fatal(err)
	}
	resource := func(verb, group, resource, ns string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{Verb: verb, APIGroup: group, Resource: resource, Namespace: ns, ResourceRequest: true}
	}
	path := func(p string) authorizer.AttributesRecord { return authorizer.AttributesRecord{Verb: "get", Path: p} }
	for _, tc := range []struct {
		name string
		user user.DefaultInfo
		a    authorizer.AttributesRecord
		want bool
	}{
		{"nobody sees /version", user.DefaultInfo{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}, path("/version"), true},
		{"nobody sees no API", user.DefaultInfo{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}, path("/api"), false},
		{"everybody sees discovery", user.DefaultInfo{Name: "x", Groups: []string{"system:authenticated"}}, path("/apis/apps/v1"), true},
		{"the scheduler binds", user.DefaultInfo{Name: "system:kube-scheduler"}, authorizer.AttributesRecord{Verb: "create", Resource: "pods", Subresource: "binding", Namespace: "x", ResourceRequest: true}, true},
		{"the deployment controller writes replica sets", user.DefaultInfo{Name: "system:serviceaccount:kube-system:deployment-controller"}, resource("create", "apps", "replicasets", "x"), true},
		{"and no secrets", user.DefaultInfo{Name: "system:serviceaccount:kube-system:deployment-controller"}, resource("get", "", "secrets", "x"), false},
		{"masters do anything", user.DefaultInfo{Name: "x", Groups: []string{"system:masters"}}, resource("delete", "x", "y", ""), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.a.User = &tc.user
			d, reason, err := az.Authorize(ctx, tc.a)
			if err != nil || (d == authorizer.DecisionAllow) != tc.want {
				t.Errorf("got %v %q %v", d, reason, err)
			}
		})
	}
}

func TestReconcileRepairsAndRespects(t *testing.T) {
	rules := []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	role := func(change func(*rbacv1.ClusterRole)) *rbacv1.ClusterRole {
		r := &rbacv1.ClusterRole{Rules: append([]rbacv1.PolicyRule(nil), rules...)}
		change(r)
		return r
	}
	want := role(func(*rbacv1.ClusterRole) {})
	for _, tc := range []struct {
		name  string
		have  *rbacv1.ClusterRole
		act   action
		rules int
	}{
		{"equal is kept", role(func(*rbacv1.ClusterRole) {}), keep, 1},
		{"a rule that was removed returns", role(func(r *rbacv1.ClusterRole) { r.Rules = nil }), update, 1},
		{"a rule that was added stays", role(func(r *rbacv1.ClusterRole) {
			r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{"x"}, NonResourceURLs: []string{"/x"}})
		}), keep, 2},
		{"an owner may refuse", role(func(r *rbacv1.ClusterRole) {
			r.Rules, r.Annotations = nil, map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"}
		}), keep, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := reconcileClusterRole(tc.have, want); got != tc.act || len(tc.have.Rules) != tc.rules {
				t.Errorf("got %v with %d rules", got, len(tc.have.Rules))
			}
		})
	}
	other := &rbacv1.ClusterRoleBinding{RoleRef: rbacv1.RoleRef{Name: "other"}}
	if got := reconcileClusterRoleBinding(other, &rbacv1.ClusterRoleBinding{}); got != replace {
		t.Errorf("a binding to another role: got %v", got)
	}
}
