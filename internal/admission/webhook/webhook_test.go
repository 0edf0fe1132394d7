package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	reviewv1 "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/admission/match"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/hook"
)

// plugins are both plugins with one webhook each, whose answers a test gives.
func plugins(t *testing.T, policy admissionv1.FailurePolicyType, answer func(*reviewv1.AdmissionReview) (*reviewv1.AdmissionResponse, error)) (*Mutating, *Validating, *prometheus.Registry) {
	t.Helper()
	none := admissionv1.SideEffectClassNone
	url := "https://example.com"
	rules := []admissionv1.RuleWithOperations{{
		Operations: []admissionv1.OperationType{"*"}, Rule: admissionv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*"}},
	}}
	c := clienttest.New(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}},
		&admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "config"}, Webhooks: []admissionv1.MutatingWebhook{{
			Name: "m.example.com", Rules: rules, FailurePolicy: &policy, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionv1.WebhookClientConfig{URL: &url}, NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
		}}},
		&admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "config"}, Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "v.example.com", Rules: rules, FailurePolicy: &policy, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionv1.WebhookClientConfig{URL: &url}, NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
		}}},
	)
	gv := admissionv1.SchemeGroupVersion
	c.Serve([]client.KindInfo{{GroupVersionResource: gv.WithResource("mutatingwebhookconfigurations"), Kind: "MutatingWebhookConfiguration", Verbs: []string{"list", "watch"}},
		{GroupVersionResource: gv.WithResource("validatingwebhookconfigurations"), Kind: "ValidatingWebhookConfiguration", Verbs: []string{"list", "watch"}}})
	matcher, err := match.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	m, v, err := New(t.Context(), Config{Client: c, Matcher: matcher, Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	call := func(_ context.Context, _ *registered, in, out hook.Review) error {
		asked := in.(*reviewv1.AdmissionReview)
		response, err := answer(asked)
		if err != nil {
			return err
		}
		response.UID = asked.Request.UID
		*out.(*reviewv1.AdmissionReview) = reviewv1.AdmissionReview{TypeMeta: asked.TypeMeta, Response: response}
		return nil
	}
	m.call, v.call = call, call
	return m, v, reg
}

func creation() *admission.Request {
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}}
	gv := corev1.SchemeGroupVersion
	form := admission.Form{
		Resource: gv.WithResource("configmaps"), Kind: gv.WithKind("ConfigMap"),
		Of: func(o runtime.Object) (runtime.Object, error) { return o.DeepCopyObject(), nil },
		Back: func(raw []byte) (runtime.Object, error) {
			out := &corev1.ConfigMap{}
			return out, json.Unmarshal(raw, out)
		},
	}
	return &admission.Request{
		Operation: admission.Create, Resource: form.Resource, Kind: form.Kind, Namespace: "ns", Name: "c", Object: o,
		Forms: func() []admission.Form { return []admission.Form{form} },
	}
}

func patched(*reviewv1.AdmissionReview) (*reviewv1.AdmissionResponse, error) {
	kind := reviewv1.PatchTypeJSONPatch
	return &reviewv1.AdmissionResponse{Allowed: true, PatchType: &kind, Patch: []byte(`[{"op":"add","path":"/data","value":{"a":"b"}}]`)}, nil
}

func TestWhatWebhooksDoIsAnnotatedAndCounted(t *testing.T) {
	away := func(*reviewv1.AdmissionReview) (*reviewv1.AdmissionResponse, error) { return nil, errors.New("gone") }
	refuse := func(*reviewv1.AdmissionReview) (*reviewv1.AdmissionResponse, error) {
		return &reviewv1.AdmissionResponse{Result: &metav1.Status{Code: 418}}, nil
	}
	allow := func(*reviewv1.AdmissionReview) (*reviewv1.AdmissionResponse, error) {
		return &reviewv1.AdmissionResponse{Allowed: true}, nil
	}
	const (
		mutation = "mutation.webhook.admission.k8s.io/round_0_index_0"
		open     = "failed-open.mutation.webhook.admission.k8s.io/round_0_index_0"
		openV    = "failed-open.validating.webhook.admission.k8s.io/round_0_index_0"
	)
	for name, test := range map[string]struct {
		answer             func(*reviewv1.AdmissionReview) (*reviewv1.AdmissionResponse, error)
		policy             admissionv1.FailurePolicyType
		mutates, validates map[string]string
		refused            string // error type
		code               string
		opens              float64
	}{
		"one that patches": {patched, admissionv1.Fail, map[string]string{
			mutation: `{"configuration":"config","webhook":"m.example.com","mutated":true}`,
			"patch.webhook.admission.k8s.io/round_0_index_0": `{"configuration":"config","webhook":"m.example.com","patch":[{"op":"add","path":"/data","value":{"a":"b"}}],"patchType":"JSONPatch"}`,
		}, nil, "", "", 0},
		"one that allows":              {allow, admissionv1.Fail, map[string]string{mutation: `{"configuration":"config","webhook":"m.example.com","mutated":false}`}, map[string]string{}, "", "200", 0},
		"one that refuses":             {refuse, admissionv1.Fail, map[string]string{mutation: `{"configuration":"config","webhook":"m.example.com","mutated":false}`}, map[string]string{}, "no_error", "418", 0},
		"one that is away":             {away, admissionv1.Fail, map[string]string{mutation: `{"configuration":"config","webhook":"m.example.com","mutated":false}`}, map[string]string{}, "calling_webhook_error", "503", 0},
		"one that is away and ignored": {away, admissionv1.Ignore, map[string]string{mutation: `{"configuration":"config","webhook":"m.example.com","mutated":false}`, open: "m.example.com"}, map[string]string{openV: "v.example.com"}, "", "503", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m, v, reg := plugins(t, test.policy, test.answer)
			r := creation()
			err := m.Admit(t.Context(), r)
			if (err != nil) != (test.refused != "") {
				t.Errorf("refused: %v", err)
			}
			same(t, r.Annotations, test.mutates)
			if r.MutatingWebhooks <= 0 {
				t.Error("its time isn't noted")
			}
			if test.validates == nil {
				return
			}
			r = creation()
			if err := v.Validate(t.Context(), r); (err != nil) != (test.refused != "") {
				t.Errorf("refused: %v", err)
			}
			same(t, r.Annotations, test.validates)
			refused := "false"
			if test.refused != "" {
				refused = "true"
			}
			for step, name := range map[string]string{"admit": "m.example.com", "validating": "v.example.com"} {
				count(t, reg, "apiserver_admission_webhook_request_total", 1, test.code, name, "CREATE", refused, step)
				if test.refused != "" {
					count(t, reg, "apiserver_admission_webhook_rejection_count", 1, test.refused, name, "CREATE", test.code, step)
				}
				if test.opens > 0 {
					count(t, reg, "apiserver_admission_webhook_fail_open_count", test.opens, name, step)
				}
			}
		})
	}
}

// count holds a counter, whose labels have these values in the order of their names, against a number.
func count(t *testing.T, reg *prometheus.Registry, name string, want float64, values ...string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetValue())
			}
			if slices.Equal(have, values) {
				if got := m.GetCounter().GetValue(); got != want {
					t.Errorf("%s%q is %v", name, values, got)
				}
				return
			}
		}
	}
	t.Errorf("there is no %s%q", name, values)
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %s", k, got[k])
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok && strings.Contains(k, "webhook.admission.k8s.io") {
			t.Errorf("also annotated: %s", k)
		}
	}
}
