package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/api/flowcontrol"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/apiserver/fairness"
	"clipper.dev/clipper/internal/apiserver/managed"
	"clipper.dev/clipper/internal/authz/bootstrap"
	"clipper.dev/clipper/internal/store/storetest"
)

// fair is a server that keeps to its flow schemas.
func fair(t *testing.T) *fixture {
	t.Helper()
	rows := []*api.Resource{core.ConfigMaps, flowcontrol.FlowSchemas, flowcontrol.PriorityLevelConfigurations}
	tracker, err := managed.New(rows, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixtureOver(t, apiserver.Config{Store: storetest.New(t), Rows: rows, Security: admin(), Tracker: tracker})
	objects, err := bootstrap.Load()
	if err != nil {
		t.Fatal(err)
	}
	c := f.Client(api.UserInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup}})
	every := fairness.Objects{Schemas: objects.FlowSchemas, Levels: objects.PriorityLevels}
	if err := fairness.Ensure(t.Context(), c, every); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Fairness().Run(ctx, c, every) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return f
}

// untilDangling waits until the condition of a schema has a status.
func untilDangling(t *testing.T, c kubernetes.Interface, name string, want flowcontrolv1.ConditionStatus) {
	t.Helper()
	w := must(c.FlowcontrolV1().FlowSchemas().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name}))(t)
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type == watch.Error {
			t.Fatal(e.Object)
		}
		for _, cond := range e.Object.(*flowcontrolv1.FlowSchema).Status.Conditions {
			if cond.Type == flowcontrolv1.FlowSchemaConditionDangling && cond.Status == want {
				return
			}
		}
	}
	t.Fatalf("the condition of %s never became %s", name, want)
}

func (f *fixture) as(t *testing.T, name, path string) *http.Response {
	t.Helper()
	r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, f.http.URL+path, nil))(t)
	if name != "" {
		r.Header.Set("X-Test-User", name)
	}
	return must(f.http.Client().Do(r))(t)
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	return string(must(io.ReadAll(r.Body))(t))
}

// slowLevel is a level with one seat and without queues.
func slowLevel() *flowcontrolv1.PriorityLevelConfiguration {
	return &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "slow"},
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: ptr.To[int32](0), BorrowingLimitPercent: ptr.To[int32](0),
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		},
	}
}

func slowSchema() *flowcontrolv1.FlowSchema {
	return &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: "slow"},
		Spec: flowcontrolv1.FlowSchemaSpec{
			MatchingPrecedence: 1000, PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: "slow"},
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
				Subjects:         []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: "noxu"}}},
				NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"/slow/*"}}},
			}},
		},
	}
}

func TestRequestsFallUnderFlowSchemas(t *testing.T) {
	f := fair(t)
	c := f.clients(t, "")
	schema := must(c.FlowcontrolV1().FlowSchemas().Create(t.Context(), slowSchema(), metav1.CreateOptions{}))(t)
	untilDangling(t, c, "slow", flowcontrolv1.ConditionTrue)
	level := must(c.FlowcontrolV1().PriorityLevelConfigurations().Create(t.Context(), slowLevel(), metav1.CreateOptions{}))(t)
	untilDangling(t, c, "slow", flowcontrolv1.ConditionFalse)

	for name, test := range map[string]struct{ user, path, schema, level string }{
		"one of its own":    {"noxu", "/slow/a", string(schema.UID), string(level.UID)},
		"another user's":    {"foo", "/slow/a", uidOf(t, c, "global-default"), ""},
		"an administrator":  {"", "/slow/a", uidOf(t, c, "exempt"), ""},
		"a probe":           {"foo", "/healthz", uidOf(t, c, "probes"), ""},
		"a refused request": {"noxu", "/api/v1/configmaps", uidOf(t, c, "global-default"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.as(t, test.user, test.path)
			text(t, r)
			if got := r.Header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID); got != test.schema {
				t.Errorf("flow schema %q, want %q", got, test.schema)
			}
			if got := r.Header.Get(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID); got == "" || test.level != "" && got != test.level {
				t.Errorf("priority level %q, want %q", got, test.level)
			}
		})
	}
}

func uidOf(t *testing.T, c kubernetes.Interface, schema string) string {
	t.Helper()
	return string(must(c.FlowcontrolV1().FlowSchemas().Get(t.Context(), schema, metav1.GetOptions{}))(t).UID)
}

func TestARequestWithoutASeatIsToldToComeAgain(t *testing.T) {
	f := fair(t)
	c := f.clients(t, "")
	must(c.FlowcontrolV1().PriorityLevelConfigurations().Create(t.Context(), slowLevel(), metav1.CreateOptions{}))(t)
	must(c.FlowcontrolV1().FlowSchemas().Create(t.Context(), slowSchema(), metav1.CreateOptions{}))(t)
	untilDangling(t, c, "slow", flowcontrolv1.ConditionFalse)

	entered, leave := make(chan struct{}), make(chan struct{})
	sec := admin()
	sec.Authorizer = everybody{}
	f.Install(sec)
	f.Handle("/slow/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		fmt.Fprint(w, "served")
	}))
	first := make(chan string, 1)
	go func() { first <- text(t, f.as(t, "noxu", "/slow/a")) }()
	<-entered
	r := f.as(t, "noxu", "/slow/b")
	if body := text(t, r); r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") != "1" || body != "Too many requests, please try again later.\n" {
		t.Errorf("%d, Retry-After %q: %q", r.StatusCode, r.Header.Get("Retry-After"), body)
	}
	for path, want := range map[string]string{
		"dump_priority_levels":                  "slow,",
		"dump_queues":                           "global-default,",
		"dump_requests?includeRequestDetails=1": "/slow/a",
	} {
		if body := text(t, f.as(t, "", "/debug/api_priority_and_fairness/"+path)); !strings.Contains(body, want) {
			t.Errorf("%s has no %q:\n%s", path, want, body)
		}
	}
	metrics := text(t, f.as(t, "", "/metrics"))
	for _, want := range []string{
		`apiserver_flowcontrol_rejected_requests_total{flow_schema="slow",priority_level="slow",reason="concurrency-limit"} 1`,
		`apiserver_flowcontrol_current_executing_requests{flow_schema="slow",priority_level="slow"} 1`,
		`apiserver_flowcontrol_nominal_limit_seats{priority_level="slow"} 0`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s", want)
		}
	}
	close(leave)
	if got := <-first; got != "served" {
		t.Errorf("the first got %q", got)
	}
}

func TestMandatoryAndSuggestedObjectsAreKept(t *testing.T) {
	f := fair(t)
	ctx, c := t.Context(), f.clients(t, "")
	engine := f.Client(api.UserInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup}})
	schemas := c.FlowcontrolV1().FlowSchemas()
	for _, name := range []string{"service-accounts", "global-default", "exempt"} {
		untilDangling(t, c, name, flowcontrolv1.ConditionFalse) // nobody writes them from now on
	}
	change := func(name string, fn func(*flowcontrolv1.FlowSchema)) {
		t.Helper()
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error { // with the conditions that are being written
			s := must(schemas.Get(ctx, name, metav1.GetOptions{}))(t)
			fn(s)
			_, err := schemas.Update(ctx, s, metav1.UpdateOptions{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	change("service-accounts", func(s *flowcontrolv1.FlowSchema) { s.Spec.MatchingPrecedence = 8999 })
	change("global-default", func(s *flowcontrolv1.FlowSchema) {
		s.Spec.MatchingPrecedence = 9899
		s.Annotations[flowcontrolv1.AutoUpdateAnnotationKey] = "false"
	})
	change("exempt", func(s *flowcontrolv1.FlowSchema) { delete(s.Annotations, flowcontrolv1.AutoUpdateAnnotationKey) })
	former := slowSchema()
	former.Annotations = map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}
	must(schemas.Create(ctx, former, metav1.CreateOptions{}))(t)
	if err := schemas.Delete(ctx, "probes", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	objects, err := bootstrap.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := fairness.Ensure(ctx, engine, fairness.Objects{Schemas: objects.FlowSchemas, Levels: objects.PriorityLevels}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int32{"service-accounts": 9000, "global-default": 9899, "probes": 2} {
		if got := must(schemas.Get(ctx, name, metav1.GetOptions{}))(t).Spec.MatchingPrecedence; got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	if got := must(schemas.Get(ctx, "exempt", metav1.GetOptions{}))(t).Annotations[flowcontrolv1.AutoUpdateAnnotationKey]; got != "true" {
		t.Errorf("the mandatory object is annotated %q", got)
	}
	if _, err := schemas.Get(ctx, "slow", metav1.GetOptions{}); err == nil {
		t.Error("an object that the server makes no more is still there")
	}
}

// everybody may do everything.
type everybody struct{}

func (everybody) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionAllow, "", nil
}

func TestProfilesNeedNoSeatAndTellNoCommandLine(t *testing.T) {
	f := newFixture(t)
	for path, code := range map[string]int{"/debug/pprof/symbol": http.StatusOK, "/debug/pprof/cmdline": http.StatusNotFound} {
		answer := f.as(t, "", path)
		text(t, answer)
		if answer.StatusCode != code || answer.Header.Get("X-Kubernetes-Pf-Flowschema-Uid") != "" {
			t.Errorf("%s: %s %v", path, answer.Status, answer.Header)
		}
	}
}

func TestProfilesCanBeLeftOut(t *testing.T) {
	f := newFixtureOver(t, apiserver.Config{Store: storetest.New(t), Rows: []*api.Resource{core.ConfigMaps}, Security: admin(), NoProfiles: true})
	if answer := f.as(t, "", "/debug/pprof/"); answer.StatusCode != http.StatusNotFound {
		t.Errorf("got %s: %s", answer.Status, text(t, answer))
	}
}

func TestATimeoutThatCannotBeReadIsRefused(t *testing.T) {
	f := newFixture(t)
	for query, code := range map[string]int{"timeout=bla": http.StatusBadRequest, "timeout=": http.StatusOK, "timeout=1s": http.StatusOK, "timeout=bla&watch=1&timeoutSeconds=1": http.StatusOK} {
		answer := f.as(t, "", "/api/v1/namespaces/default/configmaps?"+query)
		body := text(t, answer)
		if answer.StatusCode != code || code == http.StatusBadRequest && !strings.Contains(body, `invalid timeout specified in the request URL - time: invalid duration \"bla\"`) {
			t.Errorf("%s: %s %s", query, answer.Status, body)
		}
	}
}

func TestEventsAreKeptAsLongAsConfigured(t *testing.T) {
	f := newFixtureOver(t, apiserver.Config{Store: storetest.New(t), Rows: []*api.Resource{core.Events}, Security: admin(), EventTTL: time.Second})
	events := f.clients(t, "").CoreV1().Events("default")
	w := must(events.Watch(t.Context(), metav1.ListOptions{}))(t)
	defer w.Stop()
	e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Namespace: "default"}}
	must(events.Create(t.Context(), e, metav1.CreateOptions{}))(t)
	for e := range w.ResultChan() {
		if e.Type == watch.Deleted {
			return
		}
	}
	t.Error("the event is kept")
}

func TestAnAuthorizerThatFailsIsToldAsText(t *testing.T) {
	f := newFixture(t)
	sec := admin()
	sec.Authorizer = authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
		return authorizer.DecisionDeny, "", errors.New("no <idea>")
	})
	f.Install(sec)
	answer := f.as(t, "", "/api/v1/namespaces/default/configmaps")
	if got := text(t, answer); answer.StatusCode != http.StatusInternalServerError || got != "Internal Server Error: \"/api/v1/namespaces/default/configmaps\": no &lt;idea&gt;\n" {
		t.Errorf("got %s: %s", answer.Status, got)
	}
}
