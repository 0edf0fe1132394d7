package openapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
	"clipper.dev/clipper/internal/apiserver"
)

// few serves ConfigMaps, and a custom kind with a schema.
func few(schema *string) func() []apiserver.Served {
	verbs := []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	return func() []apiserver.Served {
		tabs := &api.Resource{Group: "stable.example.com", Name: "crontabs", Singular: "crontab", Kind: "CronTab", ListKind: "CronTabList", Namespaced: true}
		tabs.Versions = []api.Version{{
			Version: "v1",
			New:     func() api.Object { return &unstructured.Unstructured{} },
			NewList: func() runtime.Object { return &unstructured.UnstructuredList{} },
			Schema:  func() ([]byte, error) { return []byte(*schema), nil },
		}}
		return []apiserver.Served{
			{Row: core.ConfigMaps, Version: &core.ConfigMaps.Versions[0], Verbs: verbs},
			{Row: tabs, Version: &tabs.Versions[0], Verbs: verbs},
		}
	}
}

func ask(t *testing.T, h http.HandlerFunc, url string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, url, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h(w, r)
	return w
}

func decode(t *testing.T, body []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%v: %.200s", err, body)
	}
}

func refOf(s spec.Schema, property string) string {
	p := s.Properties[property]
	return p.Ref.String()
}

const tabSchema = `{"type":"object","description":"A tab.","properties":{"spec":{"type":"object","required":["cron"],"properties":{
	"cron":{"type":"string","description":"When."},"maybe":{"type":"string","nullable":true},
	"pod":{"type":"object","x-kubernetes-embedded-resource":true,"properties":{"spec":{"type":"object"}}}}}}}`

func TestTheIndexLeadsToDocumentsThatMayBeKeptForEver(t *testing.T) {
	schema := tabSchema
	d := New(Config{Served: few(&schema)})
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	answer := ask(t, d.serveIndex, "/openapi/v3")
	decode(t, answer.Body.Bytes(), &index)
	for _, path := range []string{"api", "api/v1", "apis", "apis/stable.example.com", "apis/stable.example.com/v1", "version"} {
		url := index.Paths[path].ServerRelativeURL
		doc := ask(t, d.serveV3, url)
		if doc.Code != http.StatusOK || doc.Header().Get("Cache-Control") != "public, immutable" || doc.Header().Get("Etag") == "" {
			t.Errorf("%s: %d %v", url, doc.Code, doc.Header())
		}
		var parsed spec3.OpenAPI
		decode(t, doc.Body.Bytes(), &parsed)
		if again := ask(t, d.serveV3, url, "If-None-Match", doc.Header().Get("Etag")); again.Code != http.StatusNotModified {
			t.Errorf("%s again: %d", url, again.Code)
		}
	}
	if moved := ask(t, d.serveV3, "/openapi/v3/api/v1?hash=OLD"); moved.Code != http.StatusMovedPermanently || moved.Header().Get("Location") != index.Paths["api/v1"].ServerRelativeURL {
		t.Errorf("an old hash: %d %v", moved.Code, moved.Header())
	}
	if none := ask(t, d.serveV3, "/openapi/v3/apis/none/v1"); none.Code != http.StatusNotFound {
		t.Errorf("an unknown group: %d", none.Code)
	}
	if refused := ask(t, d.serveV3, "/openapi/v3/api/v1", "Accept", "text/html"); refused.Code != http.StatusNotAcceptable {
		t.Errorf("HTML: %d", refused.Code)
	}
	schema = strings.Replace(tabSchema, "When.", "How often.", 1)
	if moved := ask(t, d.serveV3, index.Paths["apis/stable.example.com/v1"].ServerRelativeURL); moved.Code != http.StatusMovedPermanently {
		t.Errorf("a changed schema: %d", moved.Code)
	}
}

func TestDocumentsComeAsProtobufAndCompressed(t *testing.T) {
	schema := tabSchema
	d := New(Config{Served: few(&schema)})
	var v2 openapi_v2.Document
	answer := ask(t, d.serveV2, "/openapi/v2", "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
	if err := proto.Unmarshal(answer.Body.Bytes(), &v2); err != nil || v2.Swagger != "2.0" {
		t.Errorf("v2: %v, %v", err, answer.Header())
	}
	var v3 openapi_v3.Document
	answer = ask(t, d.serveV3, "/openapi/v3/api/v1", "Accept", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf")
	if err := proto.Unmarshal(answer.Body.Bytes(), &v3); err != nil || v3.Openapi != "3.0.0" {
		t.Errorf("v3: %v, %v", err, answer.Header())
	}
	plain := ask(t, d.serveV2, "/openapi/v2")
	packed := ask(t, d.serveV2, "/openapi/v2", "Accept-Encoding", "gzip")
	raw, err := unpack(packed.Body.Bytes())
	if err != nil || string(raw) != plain.Body.String() || packed.Header().Get("Content-Encoding") != "gzip" {
		t.Errorf("%v, %v", err, packed.Header())
	}
}

func TestACustomKindIsDocumentedByItsSchema(t *testing.T) {
	schema := tabSchema
	d := New(Config{Served: few(&schema)})
	const name = "com.example.stable.v1.CronTab"
	var v2 spec.Swagger
	decode(t, ask(t, d.serveV2, "/openapi/v2").Body.Bytes(), &v2)
	object, list := v2.Definitions[name], v2.Definitions[name+"List"]
	tab := object.Properties["spec"]
	if object.Description != "A tab." || refOf(object, "metadata") != ReferencePrefix+objectMeta || tab.Properties["cron"].Description != "When." {
		t.Errorf("got %+v", object)
	}
	if maybe := tab.Properties["maybe"]; maybe.Nullable || len(maybe.Type) > 0 {
		t.Errorf("what may be null is told in v2: %+v", maybe)
	}
	pod := tab.Properties["pod"]
	if refOf(pod, "metadata") == "" || len(pod.Required) != 2 {
		t.Errorf("got %+v", pod)
	}
	if list.Properties["items"].Items.Schema.Ref.String() != ReferencePrefix+name {
		t.Errorf("got %+v", list)
	}
	op := v2.Paths.Paths["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs"].Post
	if op == nil || op.ID != "createStableExampleComV1NamespacedCronTab" || len(op.Produces) != 2 {
		t.Errorf("got %+v", op)
	}
	var v3 spec3.OpenAPI
	decode(t, ask(t, d.serveV3, "/openapi/v3/apis/stable.example.com/v1").Body.Bytes(), &v3)
	if maybe := v3.Components.Schemas[name].Properties["spec"].Properties["maybe"]; !maybe.Nullable {
		t.Errorf("got %+v", maybe)
	}
	for what, unfit := range map[string]string{"no schema": "", "one that isn't structural": `{"properties":{"spec":{}}}`} {
		schema = unfit
		decode(t, ask(t, d.serveV2, "/openapi/v2").Body.Bytes(), &v2)
		if got := v2.Definitions[name]; len(got.Properties) != 0 || len(got.Type) != 1 {
			t.Errorf("%s: got %+v", what, got)
		}
	}
}

func TestDocumentsOfOtherServersAreServedBeside(t *testing.T) {
	schema := tabSchema
	d := New(Config{Served: few(&schema), Additions: func() []Addition {
		return []Addition{{
			Path: "apis/metrics.k8s.io/v1beta1", Hash: "1",
			V3: func() (*spec3.OpenAPI, error) { return &spec3.OpenAPI{Version: "3.0.0", Info: &spec.Info{}}, nil },
			V2: func() (*spec.Swagger, error) {
				return &spec.Swagger{SwaggerProps: spec.SwaggerProps{
					Paths:       &spec.Paths{Paths: map[string]spec.PathItem{"/apis/metrics.k8s.io/v1beta1/": {}}},
					Definitions: spec.Definitions{"io.k8s.metrics.NodeMetrics": {}},
				}}, nil
			},
		}}
	}})
	if answer := ask(t, d.serveV3, "/openapi/v3/apis/metrics.k8s.io/v1beta1"); answer.Code != http.StatusOK {
		t.Errorf("got %d", answer.Code)
	}
	var v2 spec.Swagger
	decode(t, ask(t, d.serveV2, "/openapi/v2").Body.Bytes(), &v2)
	if _, there := v2.Definitions["io.k8s.metrics.NodeMetrics"]; !there {
		t.Error("a definition of another server is missing")
	}
}
