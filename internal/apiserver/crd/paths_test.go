package crd

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver"
	"clipper.dev/clipper/internal/hook"
	"clipper.dev/clipper/internal/store/storetest"
)

// serving serves a definition of foos to everybody.
func serving(t *testing.T) http.Handler {
	t.Helper()
	names := apiextensionsv1.CustomResourceDefinitionNames{Plural: "foos", Singular: "foo", Kind: "Foo", ListKind: "FooList"}
	schema := &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true)}}
	parts := &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}}
	d := &definition{}
	d.Spec = apiextensionsv1.CustomResourceDefinitionSpec{
		Group: "example.com", Scope: apiextensionsv1.NamespaceScoped, Names: names,
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{
			{Name: "v1", Served: true, Storage: true, Schema: schema, Subresources: parts}, {Name: "v2", Served: true, Schema: schema, Subresources: parts},
		},
	}
	d.Status.AcceptedNames = names
	ctx, cancel := context.WithCancel(context.Background())
	srv, err := apiserver.New(ctx, apiserver.Config{
		Store: storetest.New(t), Rows: []*api.Resource{serve(d, hook.New(nil), newConversionMetrics(nil)).row}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Security: apiserver.Security{
			Authenticator: authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
				return &authenticator.Response{User: &user.DefaultInfo{Name: "admin"}}, true, nil
			}),
			Authorizer: authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
				return authorizer.DecisionAllow, "", nil
			}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	return srv.Handler()
}

// TestCustomResourcesAreServedByTheirVerbAlone holds answers against those of upstream's handler, which has no routes to refuse anything by.
func TestCustomResourcesAreServedByTheirVerbAlone(t *testing.T) {
	handler := serving(t)
	const (
		all, there = "/apis/example.com/v1/namespaces/ns/foos", "/apis/example.com/v1/namespaces/ns/foos/a"
		merge      = "application/merge-patch+json"
		protobuf   = "application/vnd.kubernetes.protobuf"
		foo        = `{"apiVersion":"example.com/v1","kind":"Foo","metadata":{"name":"a"}}`
	)
	for _, test := range []struct {
		name, method, path, contentType, accept, body string
		code                                          int
		says                                          string
	}{
		{"a creation", "POST", all, "", "", foo, 201, `"generation":1`},
		{"a creation at a name, which counts for nothing", "POST", all + "/b?dryRun=All", "", "", strings.Replace(foo, `"a"`, `"c"`, 1), 201, `"name":"c"`},
		{"a head", "HEAD", there, "", "", "", 200, ""},
		{"the options of an object", "OPTIONS", there, "", "", "", 405, ` is not supported on resources of kind \"foos.example.com\"`},
		{"a deletion of a status", "DELETE", there + "/status", "", "", "", 405, `delete is not supported on resources of kind \"foos.example.com\"`},
		{"a part that there isn't", "GET", there + "/scale", "", "", "", 404, `foos.example.com \"a\" not found`},
		{"an update of all", "PUT", all, "", "", foo, 400, "name must be provided"},
		{"a patch of an unknown type", "PATCH", there, "application/strategic-merge-patch+json", "", "{}", 415, "accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"},
		{"a creation outside namespaces", "POST", "/apis/example.com/v1/foos", "", "", foo, 404, "404 page not found"},
		{"another resource", "GET", "/apis/example.com/v1/bars", "", "", "", 404, "404 page not found"},
		{"an unknown type", "GET", there, "", "text/html", "", 406, "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"any type of a sort", "GET", there, "", "application/*", "", 200, `"kind":"Foo"`},
		{"protobuf", "GET", there, "", protobuf, "", 406, "only the following media types are accepted"},
		{"protobuf if possible", "GET", there, "", protobuf + ", application/json", "", 200, `"kind":"Foo"`},
		{"an object as a list", "GET", there, "", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "", 500, "content is not a list"},
		{"a list that is complete", "GET", all, "", "", "", 200, `"metadata":{"continue":"","resourceVersion"`},
		{"a patch to another version", "PATCH", there, merge, "", `{"apiVersion":"example.com/v2"}`, 422, `Invalid value: \"example.com/v2\": must be example.com/v1`},
		{"a patch to no version", "PATCH", there, "application/json-patch+json", "", `[{"op":"add","path":"/apiVersion","value":null}]`, 422, ".apiVersion accessor error"},
		{"a patch without a version", "PATCH", there, "application/json-patch+json", "", `[{"op":"remove","path":"/apiVersion"}]`, 500, "Object 'apiVersion' is missing in 'object has no apiVersion field'"},
		{"a patch in another version", "PATCH", strings.Replace(there, "v1", "v2", 1), merge, "", `{"spec":1}`, 200, `"spec":1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.contentType)
			r.Header.Set("Accept", test.accept)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.code || !strings.Contains(w.Body.String(), test.says) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}
