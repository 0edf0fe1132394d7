package request

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestRequestsAreUnderstoodAsUpstreamDoes(t *testing.T) {
	for _, test := range []struct {
		method, url string
		want        Info
	}{
		{"GET", "/api/v1/pods", Info{Verb: "list", Version: "v1", Resource: "pods"}},
		{"GET", "/api/v1/namespaces/ns/pods", Info{Verb: "list", Version: "v1", Resource: "pods", Namespace: "ns"}},
		{"GET", "/api/v1/namespaces/ns/pods?watch=1", Info{Verb: "watch", Version: "v1", Resource: "pods", Namespace: "ns"}},
		{"GET", "/api/v1/namespaces/ns/pods?watch=false", Info{Verb: "list", Version: "v1", Resource: "pods", Namespace: "ns"}},
		{"GET", "/api/v1/watch/namespaces/ns/pods", Info{Verb: "watch", Version: "v1", Resource: "pods", Namespace: "ns", WatchPrefix: true}},
		{"GET", "/api/v1/proxy/namespaces/ns/pods/p/log", Info{Verb: "proxy", Version: "v1", Resource: "pods", Namespace: "ns", Name: "p"}},
		{"POST", "/api/v1/proxy", Info{Verb: "create", Version: "v1", Resource: "proxy", Incomplete: true}},
		{"GET", "/api/v1/namespaces/ns/pods/p", Info{Verb: "get", Version: "v1", Resource: "pods", Namespace: "ns", Name: "p"}},
		{"HEAD", "/api/v1/namespaces/ns/pods/p", Info{Verb: "get", Version: "v1", Resource: "pods", Namespace: "ns", Name: "p"}},
		{"GET", "/api/v1/namespaces/ns/pods/p?watch=true", Info{Verb: "get", Version: "v1", Resource: "pods", Namespace: "ns", Name: "p"}},
		{"POST", "/apis/apps/v1/namespaces/ns/deployments", Info{Verb: "create", Group: "apps", Version: "v1", Resource: "deployments", Namespace: "ns"}},
		{"PUT", "/apis/apps/v1/namespaces/ns/deployments/d/scale", Info{Verb: "update", Group: "apps", Version: "v1", Resource: "deployments", Namespace: "ns", Name: "d", Subresource: "scale"}},
		{"PATCH", "/api/v1/nodes/n/status", Info{Verb: "patch", Version: "v1", Resource: "nodes", Name: "n", Subresource: "status"}},
		{"DELETE", "/api/v1/namespaces/ns/pods", Info{Verb: "deletecollection", Version: "v1", Resource: "pods", Namespace: "ns"}},
		{"DELETE", "/api/v1/namespaces/ns", Info{Verb: "delete", Version: "v1", Resource: "namespaces", Namespace: "ns", Name: "ns"}},
		{"PUT", "/api/v1/namespaces/ns/finalize", Info{Verb: "update", Version: "v1", Resource: "namespaces", Namespace: "ns", Name: "ns", Subresource: "finalize"}},
		{"GET", "/api/v1/namespaces/ns/services/s:http/proxy/a/b", Info{Verb: "get", Version: "v1", Resource: "services", Namespace: "ns", Name: "s:http", Subresource: "proxy", Rest: "/a/b", RestSet: true}},
		{"GET", "/api/v1/namespaces/ns/services/s/proxy/", Info{Verb: "get", Version: "v1", Resource: "services", Namespace: "ns", Name: "s", Subresource: "proxy", Rest: "/", RestSet: true}},
		{"GET", "/api/v1/pods?fieldSelector=metadata.name%3Dp", Info{Verb: "list", Version: "v1", Resource: "pods", Name: "p", FieldSelector: "metadata.name=p"}},
		{"GET", "/api/v1/pods?fieldSelector=metadata.name%3D..", Info{Verb: "list", Version: "v1", Resource: "pods", FieldSelector: "metadata.name=.."}},
	} {
		t.Run(test.method+" "+test.url, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.url, nil)
			test.want.IsResource, test.want.Path = true, r.URL.Path
			if got := *Of(r); got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestOtherPathsNameNoResource(t *testing.T) {
	for _, path := range []string{"/", "/api", "/api/", "/api/v1", "/api/v1/", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v3", "/apis/"} {
		if info := Of(httptest.NewRequest(http.MethodGet, path, nil)); info.IsResource || info.Verb != "get" || info.Path != path {
			t.Errorf("%s: %+v", path, info)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("GET", "/api/v1/namespaces/ns/pods/p/log", "watch=1&fieldSelector=a%3Db")
	f.Fuzz(func(_ *testing.T, method, path, query string) {
		r := &http.Request{Method: method, URL: httptest.NewRequest("GET", "/", nil).URL}
		r.URL.Path, r.URL.RawQuery = path, query
		Of(r)
	})
}
