package authz_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/authz"
)

// decider is an authorization webhook: it allows what alice does, denies what mallory does, breaks for bob and has no opinion otherwise.
type decider struct {
	*httptest.Server
	asked atomic.Int32
	last  atomic.Pointer[string]
}

func newDecider(t *testing.T) (*decider, string) {
	t.Helper()
	d := &decider{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.asked.Add(1)
		var review map[string]any
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
		}
		spec := review["spec"].(map[string]any)
		text := fmt.Sprint(review["apiVersion"], " ", spec["group"], " ", spec["groups"])
		d.last.Store(&text)
		status := authorizationv1.SubjectAccessReviewStatus{}
		switch spec["user"] {
		case "alice":
			status.Allowed = true
		case "mallory":
			status.Denied, status.Reason = true, "not you"
		case "bob":
			http.Error(w, "broken", http.StatusBadGateway)
			return
		}
		review["status"] = status
		if err := json.NewEncoder(w).Encode(review); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(d.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	kubeconfig := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\nusers: [{name: u}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n", d.URL+"/authorize")
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	return d, path
}

type fixed authorizer.Decision

func (f fixed) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.Decision(f), "fixed", nil
}

func build(t *testing.T, kubeconfig, version, failure, conditions string) authz.Union {
	t.Helper()
	cfg, err := authz.ParseConfiguration(fmt.Appendf(nil, `
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: policy
  webhook:
    timeout: 3s
    subjectAccessReviewVersion: %s
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: %s
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: %q}
    matchConditions: [%s]
- {type: RBAC, name: rbac}
`, version, failure, kubeconfig, conditions))
	if err != nil {
		t.Fatal(err)
	}
	u, err := authz.Builtin{Node: fixed(authorizer.DecisionNoOpinion), RBAC: fixed(authorizer.DecisionNoOpinion)}.Build(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func request(name string) authorizer.Attributes {
	return authorizer.AttributesRecord{User: &user.DefaultInfo{Name: name, Groups: []string{"devs"}}, Verb: "get", Resource: "pods", Namespace: "ns", ResourceRequest: true}
}

func TestAWebhookDecides(t *testing.T) {
	for _, c := range []struct {
		name, user, failure, conditions string
		want                            authorizer.Decision
		asked                           int32
	}{
		{"it allows", "alice", "NoOpinion", "", authorizer.DecisionAllow, 1},
		{"it denies", "mallory", "NoOpinion", "", authorizer.DecisionDeny, 1},
		{"it has no opinion", "carol", "NoOpinion", "", authorizer.DecisionNoOpinion, 1},
		{"it fails open", "bob", "NoOpinion", "", authorizer.DecisionNoOpinion, 2},
		{"it fails closed", "bob", "Deny", "", authorizer.DecisionDeny, 2},
		{"a condition leaves it out", "mallory", "NoOpinion", `{expression: "request.user != 'mallory'"}`, authorizer.DecisionNoOpinion, 0},
		{"a condition selects it", "alice", "NoOpinion", `{expression: "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'ns'"}`, authorizer.DecisionAllow, 1},
		{"a condition that fails counts as a failure", "alice", "Deny", `{expression: "request.nonResourceAttributes.path == '/x'"}`, authorizer.DecisionDeny, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, kubeconfig := newDecider(t)
			u := build(t, kubeconfig, "v1", c.failure, c.conditions)
			for range 2 { // the second answer is remembered, unless there was none
				decision, _, _ := u.Authorize(t.Context(), request(c.user))
				if decision != c.want {
					t.Errorf("decided %v", decision)
				}
			}
			if got := d.asked.Load(); got != c.asked {
				t.Errorf("asked %d times", got)
			}
		})
	}
}

func TestGroupsAreNamedAsTheVersionDoes(t *testing.T) {
	for version, want := range map[string]string{"v1": "authorization.k8s.io/v1 <nil> [devs]", "v1beta1": "authorization.k8s.io/v1beta1 [devs] <nil>"} {
		d, kubeconfig := newDecider(t)
		if decision, _, err := build(t, kubeconfig, version, "NoOpinion", "").Authorize(t.Context(), request("alice")); decision != authorizer.DecisionAllow || err != nil {
			t.Errorf("%s: %v, %v", version, decision, err)
		}
		if got := *d.last.Load(); got != want {
			t.Errorf("%s: asked with %s", version, got)
		}
	}
}

func TestConfigurationsAreValidated(t *testing.T) {
	head := "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n"
	for name, c := range map[string]struct{ text, want string }{
		"no authorizer":   {head + "authorizers: []", "authorizers: Required value: at least one authorization mode must be defined"},
		"an unknown type": {head + "authorizers: [{type: Magic, name: m}]", `Unsupported value: "Magic"`},
		"twice the same":  {head + "authorizers: [{type: RBAC, name: a}, {type: RBAC, name: b}]", `authorizers[1].type: Duplicate value: "RBAC"`},
		"no webhook":      {head + "authorizers: [{type: Webhook, name: w}]", "required when type=Webhook"},
		"unknown fields":  {head + "surprise: 1", `unknown field "surprise"`},
		"another kind":    {"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n", "expected AuthorizationConfiguration"},
	} {
		cfg, err := authz.ParseConfiguration([]byte(c.text))
		if err == nil {
			_, err = authz.Builtin{}.Build(cfg)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMastersComeFirstWhateverIsConfigured(t *testing.T) {
	u, err := authz.Builtin{Node: fixed(authorizer.DecisionDeny), RBAC: fixed(authorizer.DecisionDeny)}.Build(authz.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	var c authz.Current
	c.Set(u)
	master := authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "root", Groups: []string{user.SystemPrivilegedGroup}}}
	if decision, _, err := c.Authorize(t.Context(), master); decision != authorizer.DecisionAllow || err != nil {
		t.Errorf("got %v, %v", decision, err)
	}
	if decision, _, _ := c.Authorize(t.Context(), request("eve")); decision != authorizer.DecisionDeny {
		t.Errorf("got %v", decision)
	}
}
