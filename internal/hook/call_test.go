package hook

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	reviewv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhatIsWrongWithAnAnswerIsSaidInUpstreamsWords(t *testing.T) {
	asked := &reviewv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}}
	for _, tc := range []struct {
		name, contentType, body string
		code                    int
		want                    string
	}{
		{"nothing", "application/json", "", 200, "0-length response with status code: 200 and content type: application/json"},
		{"no_document", "application/json", "hello", 200, `couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }`},
		{"another_version", "application/json", `{"apiVersion":"admission.k8s.io/v9","kind":"AdmissionReview"}`, 200, `no kind "AdmissionReview" is registered for version "admission.k8s.io/v9" in scheme "pkg/runtime/scheme.go:111"`},
		{"another_kind", "application/json", `{"apiVersion":"admission.k8s.io/v1","kind":"Pod"}`, 200, `no kind "Pod" is registered for version "admission.k8s.io/v1" in scheme "pkg/runtime/scheme.go:111"`},
		{"no_kind", "application/json", `{"response":{"uid":"1"}}`, 200, ""},
		{"an_error_that_is_no_text", "application/json", "boom", 500, `an error on the server ("unknown") has prevented the request from succeeding`},
		{"an_error_in_words", "text/plain", "boom", 500, `an error on the server ("boom") has prevented the request from succeeding`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer := &http.Response{
				StatusCode: tc.code, Header: http.Header{"Content-Type": {tc.contentType}}, Body: io.NopCloser(bytes.NewBufferString(tc.body)),
				Request: &http.Request{Method: http.MethodPost},
			}
			got := ""
			if err := decode(answer, asked, &reviewv1.AdmissionReview{}); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got %s\nwant %s", got, tc.want)
			}
		})
	}
}
