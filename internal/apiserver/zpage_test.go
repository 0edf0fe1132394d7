package apiserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/store/storetest"
)

func newZPageFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOver(t, apiserver.Config{
		Store: storetest.New(t), Rows: []*api.Resource{core.ConfigMaps}, Security: admin(),
		Flags: map[string]string{"max-requests-inflight": "400", "api-only": "true"},
	})
}

func zpageAnswer(t *testing.T, f *fixture, method, path, accept string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, f.http.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	answer, err := f.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body strings.Builder
	if _, err := copyTo(&body, answer); err != nil {
		t.Fatal(err)
	}
	return answer, body.String()
}

func TestPagesForDebuggingAreWhatTheClientNames(t *testing.T) {
	f := newZPageFixture(t)
	const text, beta = "text/plain; charset=utf-8", ";g=config.k8s.io;v=v1beta1;as="
	for _, test := range []struct {
		path, accept string
		code         int
		contentType  string
	}{
		{"/statusz", "", 200, text},
		{"/statusz", "*/*", 200, text},
		{"/statusz", "text/*", 200, text},
		{"/statusz", "application/json, text/plain;q=0.5", 200, text},
		{"/statusz", "application/json;as=Statusz;v=v2;g=config.k8s.io,text/plain", 200, text},
		{"/statusz", "application/json;as=Statusz;v=v1beta1;g=config.k8s.io", 200, "application/json" + beta + "Statusz"},
		{"/statusz", "application/yaml;as=Statusz;v=v1beta1;g=config.k8s.io", 200, "application/yaml" + beta + "Statusz"},
		{"/flagz", "application/json;as=Flagz;v=v1beta1;g=config.k8s.io", 200, "application/json" + beta + "Flagz"},
		{"/flagz", "application/json;as=Statusz;v=v1beta1;g=config.k8s.io", 406, "application/json"},
		{"/statusz", "application/json", 406, "application/json"},
		{"/statusz", "text/html", 406, "application/json"},
		{"/statusz", "application/yaml", 406, "application/yaml"},
		{"/statusz", "application/vnd.kubernetes.protobuf", 406, "application/json"},
		{"/statusz", "text/plain;as=Statusz;v=v1beta1;g=config.k8s.io", 406, "application/json"},
		{"/statusz", "application/json;stream=watch", 406, "application/json"},
		{"/statusz", "application/cbor;as=Statusz;v=v1beta1;g=config.k8s.io", 406, "application/json"},
		{"/statusz/", "", 404, text},
		{"/configz", "", 404, text},
	} {
		answer, body := zpageAnswer(t, f, http.MethodGet, test.path, test.accept)
		if answer.StatusCode != test.code || answer.Header.Get("Content-Type") != test.contentType {
			t.Errorf("%s as %q: %d %s", test.path, test.accept, answer.StatusCode, answer.Header.Get("Content-Type"))
		}
		if test.code == 406 && !strings.Contains(strings.Join(strings.Fields(body), " "), "only the following media types are accepted: application/json, application/yaml, text/plain") {
			t.Errorf("%s as %q: %s", test.path, test.accept, body)
		}
	}
}

func TestPagesForDebuggingTellVersionAndFlags(t *testing.T) {
	f := newZPageFixture(t)
	form := regexp.MustCompile(`^
apiserver statusz
Warning: [^\n]+

Started[:= ]+\S[^\n]+
Up[:= ]+0 hr \d\d min \d\d sec
Go version[:= ]+go[^\n]+
Binary version[:= ]+1\.36\.3
Emulation version[:= ]+1\.36
Paths[:= ]+/flagz /healthz /livez /metrics /readyz /statusz /version
$`)
	if _, body := zpageAnswer(t, f, http.MethodGet, "/statusz", ""); !form.MatchString(body) {
		t.Errorf("statusz: %q", body)
	}
	answer, body := zpageAnswer(t, f, http.MethodGet, "/flagz", "application/json;as=Flagz;v=v1alpha1;g=config.k8s.io")
	var flags struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
		Flags            map[string]string
	}
	if err := json.Unmarshal([]byte(body), &flags); err != nil {
		t.Fatal(err)
	}
	if flags.APIVersion != "config.k8s.io/v1alpha1" || flags.Kind != "Flagz" || flags.Metadata.Name != "apiserver" || flags.Flags["max-requests-inflight"] != "400" {
		t.Errorf("flagz: %+v", flags)
	}
	if got := answer.Header.Get("Warning"); got != `299 - "This version of the flagz endpoint is deprecated. Please use a newer version."` {
		t.Errorf("the alpha warns: %q", got)
	}
}

func TestLevelsCountWhatHealthChecksFound(t *testing.T) {
	f := newZPageFixture(t)
	f.AddCheck("mood", false, func(context.Context) error { return errors.New("gloomy") })
	zpageAnswer(t, f, http.MethodGet, "/readyz", "")
	zpageAnswer(t, f, http.MethodGet, "/livez", "")
	zpageAnswer(t, f, http.MethodGet, "/readyz/ping", "") // one check alone isn't counted
	_, body := zpageAnswer(t, f, http.MethodGet, "/metrics/slis", "")
	for _, want := range []string{
		`kubernetes_healthcheck{name="mood",type="readyz"} 0`, `kubernetes_healthcheck{name="ping",type="livez"} 1`,
		`kubernetes_healthchecks_total{name="mood",status="error",type="readyz"} 1`, `kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	if _, body := zpageAnswer(t, f, http.MethodDelete, "/metrics/slis", ""); body != "metrics reset\n" {
		t.Errorf("reset: %q", body)
	}
	if _, body := zpageAnswer(t, f, http.MethodGet, "/metrics/slis", ""); strings.Contains(body, "kubernetes_healthcheck{") {
		t.Errorf("after a reset:\n%s", body)
	}
}

func TestMetricsTellWhatIsStored(t *testing.T) {
	f := newZPageFixture(t)
	_, body := zpageAnswer(t, f, http.MethodGet, "/metrics", "")
	for _, want := range []string{`apiserver_storage_objects{resource="configmaps"} 0`, `apiserver_resource_objects{group="",resource="configmaps"} 0`, `apiserver_storage_size_bytes{storage_cluster_id="etcd-0"} `} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}
