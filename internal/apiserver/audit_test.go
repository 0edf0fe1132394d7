package apiserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/apiserver/audit"
	"clipper.dev/clipper/internal/store/storetest"
)

// audited is a server with an audit log under a policy.
func audited(t *testing.T, policy string, rows ...*api.Resource) (f *fixture, events func() []auditv1.Event) {
	t.Helper()
	dir := t.TempDir()
	o := audit.DefaultOptions()
	o.PolicyFile, o.Log.Path = filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(o.PolicyFile, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n"+policy), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := audit.Open(o, audit.NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	sec := admin()
	sec.Impersonate = func(_ context.Context, r *http.Request, _ authorizer.Attributes) (user.Info, string, error) {
		name := r.Header.Get("Impersonate-User")
		if name == "" {
			return nil, "", nil
		}
		return &user.DefaultInfo{Name: name, Groups: []string{user.AllAuthenticated}}, "impersonate:user-info", nil
	}
	f = newFixtureOver(t, apiserver.Config{Store: storetest.New(t), Rows: append(rows, core.ConfigMaps, core.Secrets), Security: sec, Auditor: a})
	return f, func() []auditv1.Event {
		t.Helper()
		f.http.Close() // waits for the handlers
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		var out []auditv1.Event
		for line := range bytes.Lines(must(os.ReadFile(o.Log.Path))(t)) {
			var e auditv1.Event
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			out = append(out, e)
		}
		return out
	}
}

const recordConfigMaps = `
omitStages: [RequestReceived]
rules:
- level: None
  verbs: [list]
- level: RequestResponse
  omitManagedFields: true
  resources: [{group: "", resources: [configmaps]}]
- level: Metadata
`

func TestRequestsAreRecordedAsTheirPolicySays(t *testing.T) {
	for form, contentType := range forms {
		t.Run(form, func(t *testing.T) {
			ctx := context.Background()
			f, events := audited(t, recordConfigMaps)
			c := f.clients(t, contentType).CoreV1()
			o := cm("", map[string]string{"key": strings.Repeat("value", 50_000)}) // long enough to be compressed
			o.GenerateName = "a-"
			created := must(c.ConfigMaps("default").Create(ctx, o, metav1.CreateOptions{}))(t)
			must(c.ConfigMaps("default").List(ctx, metav1.ListOptions{}))(t)
			if _, err := c.Secrets("default").Get(ctx, "missing", metav1.GetOptions{}); err == nil {
				t.Error("there is no such Secret")
			}
			all := events()
			if len(all) != 2 {
				t.Fatalf("got %d events: %+v", len(all), all)
			}
			e := all[0]
			if e.Stage != auditv1.StageResponseComplete || e.Verb != "create" || e.User.Username != "admin" || e.ResponseStatus.Code != 201 || e.AuditID == "" ||
				!slices.Equal(e.SourceIPs, []string{"127.0.0.1"}) || e.ObjectRef.Resource != "configmaps" || e.Annotations["authorization.k8s.io/decision"] != "allow" {
				t.Errorf("got %+v", e)
			}
			var request, answer metav1.PartialObjectMetadata
			if err := json.Unmarshal(e.RequestObject.Raw, &request); err != nil || request.Kind != "ConfigMap" || request.GenerateName != "a-" {
				t.Errorf("the request: %v %.200s", err, e.RequestObject.Raw)
			}
			if err := json.Unmarshal(e.ResponseObject.Raw, &answer); err != nil || answer.UID != created.UID || answer.Kind != "ConfigMap" || answer.ManagedFields != nil {
				t.Errorf("the answer: %v %.200s", err, e.ResponseObject.Raw)
			}
			e = all[1]
			if e.Level != auditv1.LevelMetadata || e.ResponseStatus.Code != 404 || e.ResponseStatus.Reason != metav1.StatusReasonNotFound || e.ResponseObject != nil {
				t.Errorf("got %+v, status %+v", e, e.ResponseStatus)
			}
		})
	}
}

func TestEveryStageOfARequestIsRecorded(t *testing.T) {
	f, events := audited(t, "rules: [{level: Metadata}]")
	f.Handle("/panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oh") }))
	ctx, cancel := context.WithCancel(context.Background())
	w := must(f.clients(t, "").CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{}))(t)
	w.Stop()
	cancel()
	text(t, f.as(t, "", "/panic"))
	text(t, f.as(t, "somebody", "/api/v1/namespaces/default/configmaps/a"))
	stagesOf := map[string][]string{}
	for _, e := range events() {
		status := ""
		if e.ResponseStatus != nil {
			status = http.StatusText(int(e.ResponseStatus.Code))
		}
		stagesOf[e.Verb] = append(stagesOf[e.Verb], string(e.Stage)+" "+status)
		if e.Verb == "get" && e.ObjectRef != nil && e.Stage == auditv1.StageResponseComplete && e.Annotations["authorization.k8s.io/decision"] != "forbid" {
			t.Errorf("a refusal: %+v", e)
		}
	}
	want := map[string][]string{
		"watch": {"RequestReceived ", "ResponseStarted OK", "ResponseComplete OK"},
		"get":   {"RequestReceived ", "Panic Internal Server Error", "RequestReceived ", "ResponseComplete Forbidden"},
	}
	for verb, stages := range want {
		if !slices.Equal(stagesOf[verb], stages) {
			t.Errorf("%s: got %q, want %q", verb, stagesOf[verb], stages)
		}
	}
}

func TestWhoReallyAsksIsRecorded(t *testing.T) {
	f, events := audited(t, "omitStages: [RequestReceived]\nrules: [{level: Metadata, users: [admin]}]")
	r := must(http.NewRequest(http.MethodGet, f.http.URL+"/api/v1/namespaces/default/configmaps", nil))(t)
	r.Header.Set("Impersonate-User", "jane")
	r.Header.Set("Audit-ID", "my-own-id")
	answer := must(f.http.Client().Do(r))(t)
	text(t, answer)
	text(t, f.as(t, "jane", "/api")) // the policy doesn't want her
	all := events()
	if len(all) > 0 && (all[0].AuthenticationMetadata == nil || all[0].AuthenticationMetadata.ImpersonationConstraint != "impersonate:user-info") {
		t.Errorf("by what leave isn't told: %+v", all[0].AuthenticationMetadata)
	}
	if len(all) != 1 || all[0].User.Username != "admin" || all[0].ImpersonatedUser == nil || all[0].ImpersonatedUser.Username != "jane" || all[0].AuditID != "my-own-id" {
		t.Errorf("got %+v", all)
	}
	if got := answer.Header.Get("Audit-Id"); got != "my-own-id" {
		t.Errorf("the answer's Audit-ID is %q", got)
	}
}

func TestTheRecordOfAStrangerHasTheAnswer(t *testing.T) {
	f, events := audited(t, "omitStages: [RequestReceived]\nrules: [{level: Metadata}]")
	sec := admin()
	sec.Authenticator = authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) { return nil, false, nil })
	f.Install(sec)
	text(t, f.as(t, "", "/api/v1/namespaces/default/configmaps"))
	all := events()
	if len(all) != 1 || all[0].Stage != auditv1.StageResponseStarted {
		t.Fatalf("got %+v", all)
	}
	got := all[0].ResponseStatus
	if got.Code != http.StatusUnauthorized || got.Status != metav1.StatusFailure || got.Reason != metav1.StatusReasonUnauthorized || got.Message != "Unauthorized" {
		t.Errorf("got %+v", got)
	}
}

func TestHeadersThatImpersonateNobodyChangeNothing(t *testing.T) {
	f, events := audited(t, "omitStages: [RequestReceived]\nrules: [{level: Metadata}]")
	for _, header := range []string{"Impersonate-Foo", "Impersonate-User"} {
		r := must(http.NewRequest(http.MethodGet, f.http.URL+"/api/v1/namespaces/default/configmaps", nil))(t)
		r.Header[header] = []string{strings.TrimPrefix(header, "Impersonate-User")}
		answer := must(f.http.Client().Do(r))(t)
		text(t, answer)
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", header, answer.Status)
		}
	}
	for _, e := range events() {
		if e.User.Username != "admin" || e.ImpersonatedUser != nil {
			t.Errorf("got %+v", e)
		}
	}
}

func TestPatchesAndDeletesAreRecorded(t *testing.T) {
	ctx := context.Background()
	f, events := audited(t, "omitStages: [RequestReceived]\nrules: [{level: Request, verbs: [patch, delete]}]")
	c := f.clients(t, "").CoreV1().ConfigMaps("default")
	must(c.Create(ctx, cm("a", nil), metav1.CreateOptions{}))(t)
	must(c.Patch(ctx, "a", "application/merge-patch+json", []byte(`{"data":{"k":"v"}}`), metav1.PatchOptions{}))(t)
	if err := c.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	all := events()
	if len(all) != 2 {
		t.Fatalf("got %+v", all)
	}
	if got := string(all[0].RequestObject.Raw); got != `{"data":{"k":"v"}}` || all[0].ResponseObject != nil {
		t.Errorf("the patch: %s", got)
	}
	if got := string(all[1].RequestObject.Raw); !strings.Contains(got, `"kind":"DeleteOptions"`) || all[1].ResponseStatus.Status != metav1.StatusSuccess {
		t.Errorf("the delete: %s, %+v", got, all[1].ResponseStatus)
	}
}

func TestWritesInsideTheProcessAreRecordedToo(t *testing.T) {
	ctx := context.Background()
	f, events := audited(t, "omitStages: [RequestReceived]\nrules: [{level: Request}]")
	c := f.Client(api.UserInfo{Name: "system:kube-scheduler", Groups: []string{user.SystemPrivilegedGroup}})
	maps := corev1.SchemeGroupVersion.WithResource("configmaps")
	must(c.Create(ctx, maps, cm("a", map[string]string{"k": "v"}), metav1.CreateOptions{}))(t)
	must(c.Get(ctx, maps, "default", "a"))(t)
	if err := c.Delete(ctx, maps, "default", "b", metav1.DeleteOptions{}); err == nil {
		t.Error("there is no b")
	}
	stranger := f.Client(api.UserInfo{Name: "stranger"})
	if err := stranger.Delete(ctx, maps, "default", "a", metav1.DeleteOptions{}); err == nil {
		t.Error("a stranger may not")
	}
	all := events()
	if len(all) != 3 {
		t.Fatalf("got %+v", all)
	}
	e := all[0]
	if e.Verb != "create" || e.User.Username != "system:kube-scheduler" || e.UserAgent != "kube-scheduler" || e.RequestURI != "/api/v1/namespaces/default/configmaps" ||
		e.ObjectRef.Name != "a" || e.ResponseStatus.Code != 201 || !strings.Contains(string(e.RequestObject.Raw), `"kind":"ConfigMap"`) {
		t.Errorf("got %+v", e)
	}
	if all[1].ResponseStatus.Code != 404 || all[2].ResponseStatus.Code != 403 || all[2].Annotations["authorization.k8s.io/decision"] != "forbid" {
		t.Errorf("got %+v and %+v", all[1], all[2])
	}
}

func TestWhatIsPostedToASubresourceIsRecordedAsItsVersionShowsIt(t *testing.T) {
	f, events := audited(t, "omitStages: [RequestReceived]\nrules: [{level: Request, verbs: [create], resources: [{group: '', resources: [serviceaccounts/token]}]}]", core.ServiceAccounts)
	accounts := f.clients(t, "").CoreV1().ServiceAccounts("default")
	must(accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}))(t)
	answer := must(f.http.Client().Post(f.http.URL+"/api/v1/namespaces/default/serviceaccounts/a/token", "application/json", strings.NewReader(`{"spec":{}}`)))(t)
	text(t, answer)
	all := events()
	if len(all) != 1 || all[0].RequestObject == nil {
		t.Fatalf("got %+v", all)
	}
	if got := string(all[0].RequestObject.Raw); !strings.Contains(got, `"kind":"TokenRequest"`) || !strings.Contains(got, `"expirationSeconds":3600`) {
		t.Errorf("got %s", got)
	}
}
