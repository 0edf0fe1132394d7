package audit

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

func policy(t *testing.T, rules string) *auditv1.Policy {
	t.Helper()
	p, err := parsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n"+rules), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	p := policy(t, `
rules:
- {level: None, users: [noise]}
- {level: None, userGroups: [quiet]}
- {level: Request, verbs: [delete]}
- {level: RequestResponse, resources: [{group: "", resources: [pods]}], namespaces: [a]}
- {level: Request, resources: [{group: "", resources: ["services/*", "*/scale"]}]}
- {level: Metadata, resources: [{group: "", resources: [secrets], resourceNames: [one]}]}
- {level: Metadata, resources: [{group: apps}]}
- {level: Metadata, nonResourceURLs: ["/api*", /version]}
`)
	u := &user.DefaultInfo{Name: "u", Groups: []string{"g"}}
	resource := func(group, resource, sub, namespace, name string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{User: u, Verb: "get", ResourceRequest: true, APIGroup: group, Resource: resource, Subresource: sub, Namespace: namespace, Name: name}
	}
	by := func(a authorizer.AttributesRecord, u user.Info, verb string) authorizer.AttributesRecord {
		a.User, a.Verb = u, verb
		return a
	}
	pods := resource("", "pods", "", "a", "p")
	for name, test := range map[string]struct {
		a    authorizer.AttributesRecord
		want auditv1.Level
	}{
		"a user":                      {by(pods, &user.DefaultInfo{Name: "noise"}, "get"), ""},
		"a group":                     {by(pods, &user.DefaultInfo{Name: "x", Groups: []string{"quiet"}}, "delete"), ""},
		"a verb":                      {by(pods, u, "delete"), auditv1.LevelRequest},
		"a resource in its namespace": {pods, auditv1.LevelRequestResponse},
		"another namespace":           {resource("", "pods", "", "b", "p"), ""},
		"a resource's subresource":    {resource("", "pods", "log", "a", "p"), ""},
		"every part of a resource":    {resource("", "services", "status", "a", "s"), auditv1.LevelRequest},
		"the resource itself too":     {resource("", "services", "", "a", "s"), auditv1.LevelRequest},
		"a subresource of any":        {resource("", "replicationcontrollers", "scale", "a", "s"), auditv1.LevelRequest},
		"a name":                      {resource("", "secrets", "", "a", "one"), auditv1.LevelMetadata},
		"another name":                {resource("", "secrets", "", "a", "two"), ""},
		"a group's every resource":    {resource("apps", "deployments", "scale", "a", "d"), auditv1.LevelMetadata},
		"a path by its beginning":     {authorizer.AttributesRecord{User: u, Verb: "get", Path: "/apis"}, auditv1.LevelMetadata},
		"a path":                      {authorizer.AttributesRecord{User: u, Verb: "get", Path: "/version"}, auditv1.LevelMetadata},
		"another path":                {authorizer.AttributesRecord{User: u, Verb: "get", Path: "/version/x"}, ""},
		"somebody not known":          {authorizer.AttributesRecord{Verb: "get", Path: "/version"}, auditv1.LevelMetadata},
	} {
		t.Run(name, func(t *testing.T) {
			var got auditv1.Level
			if r := ruleFor(p, test.a); r != nil {
				got = r.Level
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestABadPolicyIsRefused(t *testing.T) {
	for rules, want := range map[string]string{
		"rules: []":             "0 rules",
		"rules: [{level: All}]": `rules[0].level: Unsupported value: "All"`,
		"rules: [{users: [u]}]": "rules[0].level: Required value",
		"rules: [{level: None, nonResourceURLs: [api]}]":                 "must begin with a '/'",
		"rules: [{level: None, nonResourceURLs: ['/a*/b']}]":             "must be the final character",
		"rules: [{level: None, omitStages: [Never]}]":                    "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
		"rules: [{level: None, resources: [{group: x/v1}]}]":             "resources.group",
		"rules: [{level: None, nonResourceURLs: [/a], namespaces: [b]}]": "cannot apply to both",
	} {
		_, err := parsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n"+rules), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", rules, err)
		}
	}
}

// kept is a sink that remembers.
type kept struct {
	mu      sync.Mutex
	batches [][]*auditv1.Event
	wait    chan struct{}
}

func (*kept) name() string   { return "kept" }
func (k *kept) close() error { return nil }
func (k *kept) process(events ...*auditv1.Event) error {
	if k.wait != nil {
		<-k.wait
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.batches = append(k.batches, events)
	return nil
}

func (k *kept) sizes() (out []int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.batches {
		out = append(out, len(b))
	}
	return out
}

func newTrouble(t *testing.T) *trouble {
	return &trouble{NewMetrics(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func TestBatchesAreWrittenWhenFullOrLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		b := newBatching(k, BatchOptions{BufferSize: 100, MaxSize: 3, MaxWait: time.Minute}, newTrouble(t))
		e := &auditv1.Event{}
		if b.process(e, e, e, e) != nil {
			t.Error("there is room")
		}
		synctest.Wait()
		if got := k.sizes(); len(got) != 1 || got[0] != 3 {
			t.Errorf("at once: %v", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := k.sizes(); len(got) != 2 || got[1] != 1 {
			t.Errorf("a minute later: %v", got)
		}
		_ = b.process(e, e)
		if err := b.close(); err != nil {
			t.Fatal(err)
		}
		if got := k.sizes(); len(got) != 3 || got[2] != 2 {
			t.Errorf("in the end: %v", got)
		}
	})
}

func TestEventsThatFindNoRoomAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, tr := &kept{wait: make(chan struct{})}, newTrouble(t)
		b := newBatching(k, BatchOptions{BufferSize: 2, MaxSize: 1}, tr)
		e := &auditv1.Event{}
		_ = b.process(e) // is being written
		synctest.Wait()
		if b.process(e, e, e, e, e) != nil {
			t.Error("a request doesn't fail for that")
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(tr.metrics.errors)
		lost, err := reg.Gather()
		if err != nil || len(lost) != 1 || lost[0].GetMetric()[0].GetCounter().GetValue() != 3 {
			t.Errorf("counted as lost: %v, %v", lost, err)
		}
		close(k.wait)
		_ = b.close()
		if len(k.sizes()) != 3 {
			t.Errorf("written: %v", k.sizes())
		}
	})
}

func TestLargeEventsLoseTheirBodies(t *testing.T) {
	k := &kept{}
	s := &truncating{sink: k, TruncateOptions: TruncateOptions{Enabled: true, MaxEventBytes: 1000, MaxBatchBytes: 1000}, trouble: newTrouble(t)}
	body := &runtime.Unknown{Raw: []byte(`"` + strings.Repeat("x", 2000) + `"`), ContentType: runtime.ContentTypeJSON}
	large := &auditv1.Event{Level: auditv1.LevelRequestResponse, RequestObject: body, ResponseObject: body}
	hopeless := &auditv1.Event{Level: auditv1.LevelMetadata, RequestURI: strings.Repeat("x", 2000)}
	small := &auditv1.Event{Level: auditv1.LevelMetadata, RequestURI: strings.Repeat("x", 300)}
	if err := s.process(large, hopeless, small, small); err != nil {
		t.Fatal(err)
	}
	cut := k.batches[0][0]
	if cut.RequestObject != nil || cut.ResponseObject != nil || cut.Annotations["audit.k8s.io/truncated"] != "true" || large.RequestObject == nil {
		t.Errorf("got %+v", cut)
	}
	total := 0
	for _, n := range k.sizes() {
		total += n
	}
	if total != 3 || len(k.batches) < 2 {
		t.Errorf("batches of %v", k.sizes())
	}
}

func TestAWebhookGetsEventsUntilItTakesThem(t *testing.T) {
	var mu sync.Mutex
	refused := 0
	var got auditv1.EventList
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if refused++; refused <= 2 {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &got); err != nil || r.URL.Path != "/events" {
			t.Errorf("%s: %v", r.URL, err)
		}
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: '" + server.URL + "/events'}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions().Webhook
	o.ConfigFile, o.InitialBackoff = file, time.Millisecond
	w, err := newWebhook(o, newTrouble(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.process(&auditv1.Event{AuditID: "a"}, &auditv1.Event{AuditID: "b"}); err != nil {
		t.Fatal(err)
	}
	_ = w.close()
	if got.Kind != "EventList" || len(got.Items) != 2 || got.Items[1].AuditID != "b" {
		t.Errorf("got %+v", got)
	}
}

func TestTheOldFormIsUpstreams(t *testing.T) {
	e := &auditv1.Event{AuditID: "id", Stage: auditv1.StageRequestReceived, Verb: "get", RequestURI: "/api", UserAgent: "curl"}
	e.User.Username, e.User.Groups = "u", []string{"g", "h"}
	want := `0001-01-01T00:00:00Z AUDIT: id="id" stage="RequestReceived" ip="<unknown>" method="get" user="u" groups="\"g\",\"h\"" as="<self>" asgroups="<lookup>" user-agent="curl" namespace="<none>" uri="/api" response="<deferred>"`
	if got := line(e); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBodiesBecomeJSON(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"{ \"a\": 1 }\n":  `{"a":1}`,
		"a: 1\n":          `{"a":1}`,
		`[{"op":"test"}]`: `[{"op":"test"}]`,
		`{"metadata":{"name":"n","managedFields":[{}]},"items":[{"metadata":{"managedFields":[]}}],"n":12345678901234567890}`: `{"items":[{"metadata":{}}],"metadata":{"name":"n"},"n":12345678901234567890}`,
	} {
		if got := string(normalize([]byte(in), true)); got != want {
			t.Errorf("%q: got %s", in, got)
		}
	}
}
