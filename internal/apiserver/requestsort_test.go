package apiserver

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"clipper.dev/clipper/internal/apiserver/request"
)

// TestRequestsAreCountedUnderUpstreamsLabels has what kube-apiserver showed of the same requests.
func TestRequestsAreCountedUnderUpstreamsLabels(t *testing.T) {
	const in = "/api/v1/namespaces/ns/configmaps"
	for _, test := range []struct {
		method, url, contentType string
		want                     requestSort
	}{
		{"GET", in, "", requestSort{verb: "LIST", scope: "namespace", sized: true}},
		{"GET", "/api/v1/configmaps", "", requestSort{verb: "LIST", scope: "cluster", sized: true}},
		{"GET", in + "?fieldSelector=metadata.name%3Da", "", requestSort{verb: "LIST", scope: "namespace", sized: true}},
		{"GET", in + "?watch=1", "", requestSort{verb: "WATCH", scope: "namespace", sized: true}},
		{"GET", in + "?watch=false", "", requestSort{verb: "LIST", scope: "namespace", sized: true}},
		{"GET", in + "/a?watch=1", "", requestSort{verb: "WATCH", scope: "resource", sized: true}},
		{"GET", "/api/v1/watch/namespaces/ns/configmaps", "", requestSort{verb: "WATCH", scope: "namespace"}},
		{"GET", "/api/v1/watch/namespaces/ns/configmaps/a", "", requestSort{verb: "WATCH", scope: "resource"}},
		{"GET", in + "/a", "", requestSort{verb: "GET", scope: "resource", sized: true}},
		{"POST", in + "?dryRun=All", "", requestSort{verb: "POST", dry: "All", scope: "resource"}},
		{"POST", in + "?dryRun=Some", "", requestSort{verb: "POST", dry: "invalid", scope: "resource"}},
		{"PUT", in + "/a", "", requestSort{verb: "PUT", scope: "resource"}},
		{"PATCH", in + "/a", "application/merge-patch+json", requestSort{verb: "PATCH", scope: "resource"}},
		{"PATCH", in + "/a", "application/apply-patch+yaml", requestSort{verb: "APPLY", scope: "resource"}},
		{"DELETE", in + "/a", "", requestSort{verb: "DELETE", scope: "resource"}},
		{"DELETE", in, "", requestSort{verb: "DELETE", scope: "namespace"}},
		{"DELETE", in + "?fieldSelector=metadata.name%3Da", "", requestSort{verb: "DELETE", scope: "namespace"}},
		{"GET", in + "/a/log", "", requestSort{verb: "CONNECT", scope: "resource", sub: "log"}},
		{"POST", in + "/a/exec", "", requestSort{verb: "CONNECT", scope: "resource", sub: "exec"}},
		{"GET", in + "/a/exec", "", requestSort{verb: "CONNECT", scope: "resource", sub: "exec"}},
	} {
		r := httptest.NewRequest(test.method, test.url, http.NoBody)
		r.Header.Set("Content-Type", test.contentType)
		w := &response{}
		w.reaches(r, request.Of(r), false)
		test.want.component, test.want.version, test.want.resource = serverComponent, "v1", "configmaps"
		got := w.sort
		if got.dry = dryRunLabel(r.URL); got != test.want {
			t.Errorf("%s %s: got %+v, not %+v", test.method, test.url, got, test.want)
		}
	}
}
