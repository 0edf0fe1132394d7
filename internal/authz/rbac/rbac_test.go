package rbac

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
)

func TestRuleAllows(t *testing.T) {
	for _, c := range []struct {
		name    string
		rule    rbacv1.PolicyRule
		request string // "verb group resource/sub name" or "verb /path"
		want    bool
	}{
		{"its resource", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}, "get - pods a", true},
		{"not another verb", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}, "list - pods ", false},
		{"not another group", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}, "get apps pods a", false},
		{"not a subresource", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}, "get - pods/log a", false},
		{"the subresource that it names", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods/log"}}, "get - pods/log a", true},
		{"but not its parent", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods/log"}}, "get - pods a", false},
		{"a subresource of everything", rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*/scale"}}, "update apps deployments/scale a", true},
		{"all resources and subresources", rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}, "x y z/w a", true},
		{"the names that it lists", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"a"}}, "get - pods a", true},
		{"and no others", rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"a"}}, "get - pods b", false},
		{"a path", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz"}}, "get /healthz", true},
		{"paths below", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz/*"}}, "get /healthz/etcd", true},
		{"not beside", rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz/*"}}, "get /healthz", false},
		{"a resource rule covers no path", rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}, "get /x", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Matcher([]rbacv1.PolicyRule{c.rule})(attributes(nil, c.request, "")); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// attributes reads "verb group resource/sub name" ("-" is the core group) or "verb /path".
func attributes(u user.Info, request, namespace string) authorizer.Attributes {
	f := strings.Split(request+"   ", " ")
	if strings.HasPrefix(f[1], "/") {
		return authorizer.AttributesRecord{User: u, Verb: f[0], Path: f[1]}
	}
	resource, sub, _ := strings.Cut(f[2], "/")
	return authorizer.AttributesRecord{User: u, Verb: f[0], APIGroup: strings.TrimPrefix(f[1], "-"), Resource: resource, Subresource: sub, Name: f[3], Namespace: namespace, ResourceRequest: true}
}

func meta(ns, name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }

func readPods() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
}

func fixture() []client.Object {
	return []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: meta("", "reader"), Rules: readPods()},
		&rbacv1.Role{ObjectMeta: meta("ns", "local"), Rules: []rbacv1.PolicyRule{{Verbs: []string{"delete"}, APIGroups: []string{""}, Resources: []string{"pods"}}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta("", "readers"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"}, Subjects: []rbacv1.Subject{{Kind: "Group", Name: "devs"}}},
		&rbacv1.RoleBinding{ObjectMeta: meta("ns", "local"), RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "local"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "bob"}, {Kind: "ServiceAccount", Name: "sa"}}},
		&rbacv1.RoleBinding{ObjectMeta: meta("ns", "dangling"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "gone"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "carol"}}},
	}
}

func TestDecisionsFollowBindings(t *testing.T) {
	az, err := New(t.Context(), clienttest.New(fixture()...))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		user      string
		groups    []string
		request   string
		namespace string
		allowed   bool
		reason    string
	}{
		{"a cluster binding holds everywhere", "alice", []string{"devs"}, "get - pods a", "ns", true, `RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "devs"`},
		{"and cluster-wide", "alice", []string{"devs"}, "list - pods ", "", true, `RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "devs"`},
		{"without the group nothing holds", "alice", nil, "get - pods a", "ns", false, ""},
		{"a role binding holds in its namespace", "bob", nil, "delete - pods a", "ns", true, `RBAC: allowed by RoleBinding "local/ns" of Role "local" to User "bob"`},
		{"and not in another", "bob", nil, "delete - pods a", "other", false, ""},
		{"nor cluster-wide", "bob", nil, "delete - pods a", "", false, ""},
		{"a service account of the binding's namespace", "system:serviceaccount:ns:sa", nil, "delete - pods a", "ns", true, `RBAC: allowed by RoleBinding "local/ns" of Role "local" to ServiceAccount "sa/ns"`},
		{"a binding to a missing role says so", "carol", nil, "get - pods a", "ns", false, `RBAC: clusterroles.rbac.authorization.k8s.io "gone" not found`},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &user.DefaultInfo{Name: c.user, Groups: c.groups}
			decision, reason, err := az.Authorize(t.Context(), attributes(u, c.request, c.namespace))
			if err != nil || (decision == authorizer.DecisionAllow) != c.allowed || reason != c.reason {
				t.Errorf("got %v %q %v", decision, reason, err)
			}
		})
	}
}

func TestChangesTakeEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := clienttest.New(fixture()...)
		az, err := New(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		defer az.Wait()
		defer cancel()
		allowed := func() bool {
			synctest.Wait()
			d, _, _ := az.Authorize(ctx, attributes(&user.DefaultInfo{Name: "dave"}, "get - pods a", "ns"))
			return d == authorizer.DecisionAllow
		}
		if allowed() {
			t.Fatal("allowed without a binding")
		}
		b := &rbacv1.RoleBinding{ObjectMeta: meta("ns", "dave"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "dave"}}}
		if b, err = roleBindings.Create(ctx, c, b); err != nil || az.WaitForBinding(ctx, "ns", "dave") != nil || !allowed() {
			t.Fatal("a new binding has no effect", err)
		}
		b = b.DeepCopy()
		b.Subjects[0].Name = "erin"
		if _, err = roleBindings.Update(ctx, c, b); err != nil || allowed() {
			t.Fatal("a removed subject is still allowed", err)
		}
		b.Subjects[0].Name, b.ResourceVersion = "dave", ""
		if _, err = roleBindings.Update(ctx, c, b); err != nil || !allowed() {
			t.Fatal("a restored subject is not allowed", err)
		}
		if err := clusterRoles.Delete(ctx, c, "", "reader", metav1.DeleteOptions{}); err != nil || allowed() {
			t.Fatal("a deleted role still allows", err)
		}
	})
}

func TestNobodyGrantsWhatTheyDoNotHave(t *testing.T) {
	c := clienttest.New(append(fixture(),
		&rbacv1.ClusterRole{ObjectMeta: meta("", "binder"), Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"bind"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}, ResourceNames: []string{"admin"}},
			{Verbs: []string{"escalate"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles"}},
		}},
		&rbacv1.ClusterRole{ObjectMeta: meta("", "admin"), Rules: everything},
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta("", "binder"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "binder"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "binder"}}},
	)...)
	az, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	plugin := &Escalation{Rules: az, Authorizer: az}
	dev := api.UserInfo{Name: "alice", Groups: []string{"devs"}}
	binder := api.UserInfo{Name: "binder"}
	role := func(verbs ...string) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: meta("", "r"), Rules: []rbacv1.PolicyRule{{Verbs: verbs, APIGroups: []string{""}, Resources: []string{"pods"}}}}
	}
	bind := func(name string) *rbacv1.ClusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{ObjectMeta: meta("", "b"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}}
	}
	for _, tc := range []struct {
		name     string
		user     api.UserInfo
		resource string
		obj, old api.Object
		err      string
	}{
		{"a subset of one's own", dev, "clusterroles", role("get"), nil, ""},
		{"more than one's own", dev, "clusterroles", role("delete", "get", "patch"), nil,
			"clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: user \"alice\" (groups=[\"devs\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"patch\"]}"},
		{"masters may", api.UserInfo{Name: "root", Groups: []string{"system:masters"}}, "clusterroles", role("*"), nil, ""},
		{"an update of bookkeeping alone", dev, "clusterroles", func() api.Object { r := role("*"); r.Finalizers = []string{"a/b"}; return r }(), role("*"), ""},
		{"an aggregation rule takes everything", dev, "clusterroles", &rbacv1.ClusterRole{ObjectMeta: meta("", "r"), AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{}}}}, nil,
			`clusterroles.rbac.authorization.k8s.io "r" is forbidden: must have cluster-admin privileges to use the aggregationRule`},
		{"escalate allows", binder, "roles", &rbacv1.Role{ObjectMeta: meta("ns", "r"), Rules: everything}, nil, ""},
		{"binding what one has", dev, "clusterrolebindings", bind("reader"), nil, ""},
		{"binding more", dev, "clusterrolebindings", bind("admin"), nil, "is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"},
		{"bind allows", binder, "clusterrolebindings", bind("admin"), nil, ""},
		{"bind allows what it names alone", binder, "clusterrolebindings", bind("reader"), nil, "not currently held"},
		{"binding a role that isn't there", dev, "clusterrolebindings", bind("none"), nil, `clusterrolebindings.rbac.authorization.k8s.io "none" not found`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &admission.Request{Operation: admission.Create, Resource: rbacv1.SchemeGroupVersion.WithResource(tc.resource), User: tc.user, Object: tc.obj, Namespace: tc.obj.GetNamespace()}
			if tc.old != nil {
				r.Operation, r.OldObject = admission.Update, tc.old
			}
			err := plugin.Validate(t.Context(), r)
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %v", err)
			}
		})
	}
}
