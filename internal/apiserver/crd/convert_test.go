package crd

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/hook"
)

// hooked is a converter by a webhook that answers as a test says, and counts its requests.
func hooked(t *testing.T, answer func(asked map[string]any) any) (converter, *int) {
	t.Helper()
	calls := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		var asked map[string]any
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		if err := json.NewEncoder(w).Encode(answer(asked)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	d := &definition{ObjectMeta: metav1.ObjectMeta{Name: "widgets.example.com"}}
	d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.WebhookConverter, Webhook: &apiextensionsv1.WebhookConversion{
		ClientConfig: &apiextensionsv1.WebhookClientConfig{URL: &server.URL, CABundle: ca}, ConversionReviewVersions: []string{"v1"},
	}}
	return newConverter(d, hook.New(nil), newConversionMetrics(nil)), &calls
}

func widgets(n int) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, n)
	for i := range out {
		out[i] = &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": fmt.Sprintf("w%d", i), "uid": "u", "labels": map[string]any{"a": "b"}},
		}}
	}
	return out
}

// converted answers with the objects in the version asked for, once change has had its way.
func converted(change func(i int, o map[string]any)) func(map[string]any) any {
	return func(asked map[string]any) any {
		request := asked["request"].(map[string]any)
		objects := request["objects"].([]any)
		for i, o := range objects {
			o := o.(map[string]any)
			o["apiVersion"] = request["desiredAPIVersion"]
			if change != nil {
				change(i, o)
			}
		}
		asked["response"] = map[string]any{"uid": request["uid"], "convertedObjects": objects, "result": map[string]any{"status": "Success"}}
		delete(asked, "request")
		return asked
	}
}

var v2 = kschema.GroupVersion{Group: "example.com", Version: "v2"}

func TestAWebhookConvertsManyObjectsByOneRequest(t *testing.T) {
	convert, calls := hooked(t, converted(func(i int, o map[string]any) {
		o["metadata"].(map[string]any)["labels"] = map[string]any{"number": fmt.Sprint(i)}
	}))
	out, err := convert(widgets(batchObjects+1), v2)
	if err != nil {
		t.Fatal(err)
	}
	if *calls != 2 || len(out) != batchObjects+1 {
		t.Errorf("%d requests for %d objects", *calls, len(out))
	}
	for i, u := range out {
		if u.GetName() != fmt.Sprintf("w%d", i) || u.GetAPIVersion() != "example.com/v2" || u.GetLabels()["number"] != fmt.Sprint(i%batchObjects) {
			t.Fatalf("object %d is %v", i, u)
		}
	}
}

func TestAWebhooksErrorsAreUpstreams(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(map[string]any) any
		want   string
	}{
		"another version": {converted(func(i int, o map[string]any) { o["apiVersion"] = "example.com/v3" }),
			"conversion webhook for example.com/v1, Kind=Widget returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v3)"},
		"another name": {converted(func(i int, o map[string]any) { o["metadata"].(map[string]any)["name"] = "x" }),
			"conversion webhook for example.com/v1, Kind=Widget returned invalid object: must have the same name: w0 != x"},
		"a refusal": {func(asked map[string]any) any {
			asked["response"] = map[string]any{"uid": asked["request"].(map[string]any)["uid"], "result": map[string]any{"status": "Failure", "message": "no"}}
			return asked
		}, "conversion webhook for example.com/v1, Kind=Widget failed: no"},
		"nothing": {func(asked map[string]any) any { delete(asked, "request"); return asked },
			"conversion webhook for example.com/v1, Kind=Widget failed: no response provided"},
		"too few": {func(asked map[string]any) any {
			out := converted(nil)(asked).(map[string]any)
			out["response"].(map[string]any)["convertedObjects"] = []any{}
			return out
		}, "conversion webhook for example.com/v1, Kind=Widget returned 0 objects, expected 2"},
		"another's answer": {func(asked map[string]any) any {
			out := converted(nil)(asked).(map[string]any)
			out["response"].(map[string]any)["uid"] = "x"
			return out
		}, `conversion webhook for example.com/v1, Kind=Widget failed: expected response.uid="`},
	} {
		t.Run(name, func(t *testing.T) {
			convert, _ := hooked(t, test.answer)
			if _, err := convert(widgets(2), v2); err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
