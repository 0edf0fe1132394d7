package apiserver_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/api"
	_ "clipper.dev/clipper/internal/api/all"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/apiserver/managed"
	"clipper.dev/clipper/internal/apiserver/wire"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store/storetest"
)

// fuzzed is a whole engine, with an object or two to work on, that is sent requests without a connection between.
type fuzzed struct {
	handler http.Handler
}

func newFuzzed(f *testing.F) fuzzed {
	f.Helper()
	tracker, err := managed.New(api.Registered(), nil)
	if err != nil {
		f.Fatal(err)
	}
	s := newFixtureOver(f, apiserver.Config{Store: storetest.New(f), Rows: api.Registered(), Security: admin(), Tracker: tracker})
	c := s.Client(administrator)
	for i := range 5 {
		o := cm(nameOf(i), map[string]string{"k": "v"})
		o.Labels = map[string]string{"app": "a", "n": strconv.Itoa(i)}
		if _, err := client.ConfigMaps.Create(f.Context(), c, o); err != nil {
			f.Fatal(err)
		}
	}
	w := fuzzed{handler: s.Handler()}
	w.want(f, http.MethodPost, "/apis/apps/v1/namespaces/default/deployments", "application/json", []byte(deploymentText), http.StatusCreated)
	return w
}

const deploymentText = `{"metadata":{"name":"d","labels":{"app":"d"}},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"d"}},"template":{
	"metadata":{"labels":{"app":"d"}},"spec":{"containers":[{"name":"c","image":"i","args":["a"],"env":[{"name":"E","value":"v"}],"ports":[{"containerPort":80}]}],
	"tolerations":[{"key":"k","operator":"Exists"}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Gi"}}]}}}}`

// send returns the answer's code. No input may make the server panic. (Upstream answers some mistakes of clients with 500.)
func (w fuzzed) send(t testing.TB, method, target, contentType string, body []byte) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return 0
	}
	r := (&http.Request{Method: method, URL: u, RequestURI: target, Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{}, Host: "h", RemoteAddr: "192.0.2.1:1"}).WithContext(ctx)
	r.Body, r.ContentLength = http.NoBody, 0
	if body != nil {
		r.Header.Set("Content-Type", contentType)
		r.Body, r.ContentLength = readCloser{bytes.NewReader(body)}, int64(len(body))
	}
	answer := &untilFlushed{httptest.NewRecorder(), cancel}
	w.handler.ServeHTTP(answer, r)
	if panicked(answer) {
		t.Errorf("%s %s\n%q\n%s", method, target, body, answer.Body)
	}
	return answer.Code
}

func (w fuzzed) want(t testing.TB, method, target, contentType string, body []byte, code int) {
	t.Helper()
	if got := w.send(t, method, target, contentType, body); got != code {
		t.Fatalf("%s %s: %d", method, target, got)
	}
}

func panicked(answer *untilFlushed) bool {
	return answer.Code == http.StatusInternalServerError && bytes.Contains(answer.Body.Bytes(), []byte("caused apiserver to panic"))
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// untilFlushed ends the request when something has been flushed: a watch would go on.
type untilFlushed struct {
	*httptest.ResponseRecorder
	end func()
}

func (u *untilFlushed) Flush() {
	u.ResponseRecorder.Flush()
	u.end()
}

// creatable are the collections that take objects, in every version, in order.
func creatable() []string {
	var out []string
	for _, row := range api.Registered() {
		if row.Verbs != nil && !slices.Contains(row.Verbs, "create") {
			continue
		}
		for _, v := range row.Versions {
			out = append(out, collection(schema.GroupVersionResource{Group: row.Group, Version: v.Version, Resource: row.Name}, row.Namespaced))
		}
	}
	slices.Sort(out)
	return out
}

func collection(gvr schema.GroupVersionResource, namespaced bool) string {
	path := "/apis/" + gvr.Group + "/" + gvr.Version
	if gvr.Group == "" {
		path = "/api/" + gvr.Version
	}
	if namespaced {
		path += "/namespaces/default"
	}
	return path + "/" + gvr.Resource
}

var bodyForms = []string{"application/json", "application/yaml", protobuf, "application/cbor"}

var directives = []string{"Strict", "Warn", "Ignore"}

// FuzzBodies creates objects of all kinds, in dry run, from arbitrary bytes in every form.
func FuzzBodies(f *testing.F) {
	w := newFuzzed(f)
	all := creatable()
	pods := slices.Index(all, "/api/v1/namespaces/default/pods")
	deployments := slices.Index(all, "/apis/apps/v1/namespaces/default/deployments")
	if pods < 0 || deployments < 0 {
		f.Fatalf("pods and deployments are not among %v", all)
	}
	f.Add([]byte(deploymentText), uint16(deployments), uint8(0))
	f.Add([]byte("metadata: {name: p}\nspec: &s\n  containers: [{name: c, image: i}]\nx: *s\n"), uint16(pods), uint8(1))
	f.Add([]byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","name":"q"},"Spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"1e3"}}}]}}`), uint16(pods), uint8(0))
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	f.Add(enveloped(f, &pod, "v1", "Pod"), uint16(pods), uint8(2))
	f.Add(enveloped(f, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}}, "apps/v1", "Deployment"), uint16(deployments), uint8(2))
	for i := range all {
		f.Add([]byte(`{"metadata":{"name":"x"},"spec":{},"status":{}}`), uint16(i), uint8(0))
	}
	f.Fuzz(func(t *testing.T, body []byte, kind uint16, form uint8) {
		query := "?dryRun=All&fieldValidation=" + directives[int(form/4)%len(directives)]
		w.send(t, http.MethodPost, all[int(kind)%len(all)]+query, bodyForms[form%4], body)
	})
}

func enveloped(f *testing.F, o interface{ Marshal() ([]byte, error) }, version, kind string) []byte {
	f.Helper()
	raw, err := o.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	return wire.AppendEnvelope(nil, version, kind, raw)
}

const deployment = "/apis/apps/v1/namespaces/default/deployments/d"

// FuzzPatches patches a Deployment, in dry run, in every way, server-side apply included.
func FuzzPatches(f *testing.F) {
	w := newFuzzed(f)
	kinds := []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType}
	for kind, patches := range [][]string{
		{
			`[{"op":"add","path":"/metadata/labels/x","value":"y"},{"op":"remove","path":"/spec/replicas"}]`,
			`[{"op":"test","path":"/spec/replicas","value":2},{"op":"move","from":"/metadata/labels/app","path":"/metadata/annotations"}]`,
			`[{"op":"copy","from":"/spec/template/spec/containers/0","path":"/spec/template/spec/containers/-"},{"op":"replace","path":"/spec/template/spec/containers/1/name","value":"b"}]`,
		},
		{`{"spec":{"replicas":null,"template":{"spec":{"containers":[{"name":"x"}]}}}}`, `{"metadata":{"managedFields":[{}],"finalizers":["a/b"]}}`},
		{
			`{"spec":{"template":{"spec":{"containers":[{"name":"c","$patch":"delete"},{"name":"n","image":"j"}],"$setElementOrder/containers":[{"name":"n"}]}}}}`,
			`{"spec":{"template":{"spec":{"$retainKeys":["containers"],"volumes":[{"name":"v","$retainKeys":["name","hostPath"],"hostPath":{"path":"/"}}],"tolerations":[{"$patch":"replace"}]}}}}`,
			`{"metadata":{"$deleteFromPrimitiveList/finalizers":["x"],"finalizers":["y"]}}`,
		},
		{
			"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, labels: {l: m}}\nspec: {template: {spec: {containers: [{name: c, image: j, ports: [{containerPort: 80, protocol: UDP}]}]}}}\n",
			`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"template":{"spec":{"containers":[{"name":"c"},{"name":"c"}]}}}}`,
			`{"apiVersion":"apps/v1beta1","kind":"Deployment","spec":[]}`,
		},
	} {
		for _, p := range patches {
			f.Add([]byte(p), uint8(kind))
		}
	}
	f.Fuzz(func(t *testing.T, patch []byte, how uint8) {
		kind := kinds[how%4]
		query := "?dryRun=All&fieldManager=m&fieldValidation=" + directives[int(how/4)%len(directives)]
		if kind == types.ApplyYAMLPatchType && how >= 128 {
			query += "&force=true"
		}
		w.send(t, http.MethodPatch, deployment+query, string(kind), patch)
	})
}

// FuzzSelectors lists and watches by selectors; a list that is answered has the objects that the selector finds itself.
func FuzzSelectors(f *testing.F) {
	w := newFuzzed(f)
	f.Add("app=a,n in (1,2),!x", "metadata.name=m")
	f.Add("n>1,n<4,app!=b", "metadata.namespace!=x,metadata.name==a\\,b")
	f.Add("a notin ()", "=")
	f.Fuzz(func(t *testing.T, labels, fields string) {
		q := url.Values{"labelSelector": {labels}, "fieldSelector": {fields}}
		list := w.send(t, http.MethodGet, mapsPath+"?"+q.Encode(), "", nil)
		q.Set("watch", "true")
		if watch := w.send(t, http.MethodGet, mapsPath+"?"+q.Encode(), "", nil); watch != list {
			t.Errorf("a list is answered with %d, a watch with %d", list, watch)
		}
	})
}

// FuzzListParameters lists and watches with arbitrary parameters, tokens of pages and versions among them.
func FuzzListParameters(f *testing.F) {
	w := newFuzzed(f)
	f.Add("limit=2&resourceVersion=5&resourceVersionMatch=Exact", false)
	f.Add("limit=2&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJkZWZhdWx0L3hcdTAwMDAifQ", false)
	f.Add("watch=1&resourceVersion=3&allowWatchBookmarks=true&timeoutSeconds=1", true)
	f.Add("watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0&allowWatchBookmarks=1", true)
	f.Add("watch=true&resourceVersion=-1&timeoutSeconds=99999999999999999999", true)
	f.Fuzz(func(t *testing.T, query string, table bool) {
		if values, err := url.ParseQuery(query); err == nil {
			if revision, err := strconv.ParseInt(values.Get("resourceVersion"), 10, 64); err == nil && revision > 5 {
				return // waits for what is still to come, as it should
			}
		}
		accept := ""
		if table {
			accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
		}
		w.list(t, mapsPath+"?"+query, accept)
	})
}

func (w fuzzed) list(t testing.TB, target, accept string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return
	}
	r := (&http.Request{Method: http.MethodGet, URL: u, RequestURI: target, Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{"Accept": {accept}}, Host: "h", Body: http.NoBody}).WithContext(ctx)
	answer := &untilFlushed{httptest.NewRecorder(), cancel}
	w.handler.ServeHTTP(answer, r)
	if panicked(answer) {
		t.Errorf("%s\n%s", target, answer.Body)
	}
}

// FuzzPaths sends requests to arbitrary paths.
func FuzzPaths(f *testing.F) {
	w := newFuzzed(f)
	for i, path := range []string{
		"/api/v1/namespaces/default/pods/p/log", "/api/v1/namespaces/default/../../x", "/apis/apps/v1/deployments/%2e%2e", "/openapi/v3/apis/apps/v1",
		"/api/v1/namespaces/default/services/https:s:443/proxy/x?y", "/apis//", "/api/v1/watch/namespaces/a/pods/b", "/logs/../../etc/passwd", "/api/v1/nodes/n/proxy/..",
		"/apis/apps/v1/namespaces/default/deployments/d/scale", "/api/v1/componentstatuses/etcd-0", "/debug/pprof/../x", "/healthz/etcd", "/readyz?exclude=a&verbose",
	} {
		f.Add(path, uint8(i))
	}
	methods := []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodHead}
	f.Fuzz(func(t *testing.T, path string, how uint8) {
		if bytes.Contains([]byte(path), []byte("pprof")) {
			return // profiles take their time
		}
		method := methods[int(how)%len(methods)]
		var body []byte
		if method != http.MethodGet && method != http.MethodHead {
			body = []byte(`{"metadata":{"name":"x"},"dryRun":["All"]}`)
		}
		if method == http.MethodDelete {
			path += "?dryRun=All"
		}
		w.send(t, method, path, "application/json", body)
	})
}
