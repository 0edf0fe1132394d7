package admissionregistration

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAnUpdateOfWebhooksMayLeaveWhatWasWrongBefore(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(*admissionv1.ValidatingWebhook)
		others bool   // whether a second webhook is spoilt alike
		fault  string // of a new object
	}{
		{"side effects", func(h *admissionv1.ValidatingWebhook) { *h.SideEffects = admissionv1.SideEffectClassSome }, false, "webhooks[0].sideEffects"},
		{"no version of reviews that is known", func(h *admissionv1.ValidatingWebhook) { h.AdmissionReviewVersions = []string{"v7"} }, false, "webhooks[0].admissionReviewVersions"},
		{"equal names", func(h *admissionv1.ValidatingWebhook) { h.Name = "same.example.com" }, true, "webhooks[1].name"},
		{"a match condition that doesn't compile", func(h *admissionv1.ValidatingWebhook) {
			h.MatchConditions = []admissionv1.MatchCondition{{Name: "c", Expression: "objekt"}}
		}, false, "webhooks[0].matchConditions[0].expression"},
		{"a value that no label has", func(h *admissionv1.ValidatingWebhook) {
			h.ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpIn, Values: []string{"not/so"}}}}
		}, false, "webhooks[0].objectSelector"},
	} {
		t.Run(test.name, func(t *testing.T) {
			stored := configuration()
			test.spoil(&stored.Webhooks[0])
			if test.others {
				test.spoil(&stored.Webhooks[1])
			}
			if errs := validateValidating(stored, nil); len(errs) != 1 || !strings.HasPrefix(errs[0].Field, test.fault) {
				t.Errorf("a new one: %v", errs)
			}
			changed := stored.DeepCopy()
			changed.Webhooks[0].TimeoutSeconds = new(int32)
			*changed.Webhooks[0].TimeoutSeconds = 7
			if errs := validateValidating(changed, stored); len(errs) > 0 {
				t.Errorf("an update of another field: %v", errs)
			}
			if errs := validateValidating(stored, configuration()); len(errs) != 1 {
				t.Errorf("an update that spoils it: %v", errs)
			}
		})
	}
}

func configuration() *admissionv1.ValidatingWebhookConfiguration {
	c := &admissionv1.ValidatingWebhookConfiguration{}
	for _, name := range []string{"a.example.com", "b.example.com"} {
		url, none := "https://example.com/hook", admissionv1.SideEffectClassNone
		c.Webhooks = append(c.Webhooks, admissionv1.ValidatingWebhook{
			Name: name, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, ClientConfig: admissionv1.WebhookClientConfig{URL: &url},
		})
	}
	return c
}

func TestVariablesOfAPolicyAreKnownHoweverTheyCompile(t *testing.T) {
	for _, test := range []struct{ name, variable, fault string }{
		{"of a known type", "1", ""},
		{"that doesn't compile", "nonsense!", "spec.variables[0].expression"},
		{"that is empty", "", "spec.variables[0].expression spec.validations[0].expression"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fail := admissionv1.Fail
			p := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: admissionv1.ValidatingAdmissionPolicySpec{
				FailurePolicy: &fail, Variables: []admissionv1.Variable{{Name: "v", Expression: test.variable}},
				Validations: []admissionv1.Validation{{Expression: "variables.v > 1"}},
				MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{"CREATE"}, Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				}}}},
			}}
			var fields []string
			for _, err := range validateValidatingPolicy(p, nil) {
				fields = append(fields, err.Field)
			}
			if got := strings.Join(fields, " "); got != test.fault {
				t.Errorf("got faults in %q, want %q", got, test.fault)
			}
		})
	}
}
