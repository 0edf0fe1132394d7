package authn

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// allow allows what is listed: "impersonate users bob", "impersonate-on:user-info:list pods".
func allow(allowed ...string) authorizer.Authorizer {
	return authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		what := []string{a.GetVerb(), a.GetResource()}
		if a.GetSubresource() != "" {
			what[1] += "/" + a.GetSubresource()
		}
		if a.GetName() != "" {
			what = append(what, a.GetName())
		}
		if slices.Contains(allowed, strings.Join(what, " ")) {
			return authorizer.DecisionAllow, "", nil
		}
		return authorizer.DecisionNoOpinion, "", nil
	})
}

func TestImpersonation(t *testing.T) {
	agent := &user.DefaultInfo{Name: "system:serviceaccount:ns:agent", Extra: map[string][]string{serviceaccount.NodeNameKey: {"n1"}}}
	node := &user.DefaultInfo{Name: "system:node:n1", Groups: []string{"system:nodes", "system:authenticated"}}
	for _, c := range []struct {
		name    string
		by      user.Info
		headers []string
		allowed []string
		want    user.Info
		refused string
	}{
		{name: "no headers", want: nil},
		{name: "a user, of old", headers: []string{"Impersonate-User", "bob"}, allowed: []string{"impersonate users bob"},
			want: &user.DefaultInfo{Name: "bob", Groups: []string{"system:authenticated"}}},
		{name: "a service account gets its groups", headers: []string{"Impersonate-User", "system:serviceaccount:ns:sa"}, allowed: []string{"impersonate serviceaccounts sa"},
			want: &user.DefaultInfo{Name: "system:serviceaccount:ns:sa", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}}},
		{name: "all at once", headers: []string{"Impersonate-User", "bob", "Impersonate-Group", "g", "Impersonate-Uid", "u", "Impersonate-Extra-a%2Fb", "v"},
			allowed: []string{"impersonate users bob", "impersonate groups g", "impersonate uids u", "impersonate userextras/a/b v"},
			want:    &user.DefaultInfo{Name: "bob", UID: "u", Groups: []string{"g", "system:authenticated"}, Extra: map[string][]string{"a/b": {"v"}}}},
		{name: "nobody", headers: []string{"Impersonate-User", "system:anonymous"}, allowed: []string{"impersonate users system:anonymous"},
			want: &user.DefaultInfo{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}},
		{name: "a group alone", headers: []string{"Impersonate-Group", "g"}, refused: "without impersonating a user name"},
		{name: "without leave", headers: []string{"Impersonate-User", "bob"},
			refused: `pods is forbidden: User "admin" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "ns"`},

		{name: "a user, for lists of pods", headers: []string{"Impersonate-User", "bob"}, allowed: []string{"impersonate-on:user-info:list pods", "impersonate:user-info users bob"},
			want: &user.DefaultInfo{Name: "bob", Groups: []string{"system:authenticated"}}},
		{name: "a user, for something else", headers: []string{"Impersonate-User", "bob"}, allowed: []string{"impersonate-on:user-info:get pods", "impersonate:user-info users bob"}, refused: "cannot impersonate-on:user-info:list"},
		{name: "another user", headers: []string{"Impersonate-User", "eve"}, allowed: []string{"impersonate-on:user-info:list pods", "impersonate:user-info users bob"},
			refused: `users.authentication.k8s.io "eve" is forbidden: User "admin" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope`},
		{name: "many groups at once", headers: []string{"Impersonate-User", "bob", "Impersonate-Group", "1", "Impersonate-Group", "2", "Impersonate-Group", "3", "Impersonate-Group", "4"},
			allowed: []string{"impersonate-on:user-info:list pods", "impersonate:user-info users bob", "impersonate:user-info groups *"},
			want:    &user.DefaultInfo{Name: "bob", Groups: []string{"1", "2", "3", "4", "system:authenticated"}}},
		{name: "masters only in the way of old", headers: []string{"Impersonate-User", "bob", "Impersonate-Group", "system:masters"},
			allowed: []string{"impersonate-on:user-info:list pods", "impersonate:user-info users bob", "impersonate:user-info groups system:masters"}, refused: "impersonating the system:masters group is not allowed"},
		{name: "a service account, constrained", headers: []string{"Impersonate-User", "system:serviceaccount:ns:sa"}, allowed: []string{"impersonate-on:serviceaccount:list pods", "impersonate:serviceaccount serviceaccounts sa"},
			want: &user.DefaultInfo{Name: "system:serviceaccount:ns:sa", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}}},
		{name: "any node", headers: []string{"Impersonate-User", "system:node:n1"}, allowed: []string{"impersonate-on:arbitrary-node:list pods", "impersonate:arbitrary-node nodes n1"}, want: node},
		{name: "the own node", by: agent, headers: []string{"Impersonate-User", "system:node:n1"}, allowed: []string{"impersonate-on:associated-node:list pods", "impersonate:associated-node nodes *"}, want: node},
		{name: "not another's node", by: agent, headers: []string{"Impersonate-User", "system:node:n2"}, allowed: []string{"impersonate-on:associated-node:list pods", "impersonate:associated-node nodes *"},
			refused: "cannot impersonate-on:arbitrary-node:list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.by == nil {
				c.by = &user.DefaultInfo{Name: "admin"}
			}
			h := request(nil, c.headers...).Header
			got, constraint, err := NewImpersonator(allow(c.allowed...), nil).Impersonate(t.Context(), h, authorizer.AttributesRecord{User: c.by, Verb: "list", Resource: "pods", Namespace: "ns", ResourceRequest: true})
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || c.want != nil && !reflect.DeepEqual(got, c.want) || c.want == nil && got != nil {
				t.Errorf("got %+v, %v", got, err)
			}
			if len(h) != 0 {
				t.Errorf("headers are left: %v", h)
			}
			if constrained := slices.ContainsFunc(c.allowed, func(s string) bool { return strings.HasPrefix(s, "impersonate-on:") }); constrained != (constraint != "") {
				t.Errorf("the constraint is %q", constraint)
			}
		})
	}
}

func TestTheModeThatLastLetAUserIsTriedFirst(t *testing.T) {
	as := func(i *Impersonator, headers ...string) string {
		a := authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "admin"}, Verb: "list", Resource: "pods", ResourceRequest: true}
		_, _, err := i.Impersonate(t.Context(), request(nil, headers...).Header, a)
		if err == nil {
			return ""
		}
		return err.Error()
	}
	i := NewImpersonator(allow("impersonate users bob"), nil)
	if got := as(i, "Impersonate-User", "eve"); !strings.Contains(got, "cannot impersonate-on:user-info:list") {
		t.Errorf("at first: %s", got)
	}
	if got := as(i, "Impersonate-User", "bob"); got != "" {
		t.Errorf("as bob: %s", got)
	}
	want := `users "eve" is forbidden: User "admin" cannot impersonate resource "users" in API group "" at the cluster scope`
	if got := as(i, "Impersonate-User", "eve"); got != want {
		t.Errorf("then: %s", got)
	}
}
