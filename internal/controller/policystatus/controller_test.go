package policystatus

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
	"clipper.dev/clipper/internal/controller"
)

// widget is a kind with one field in its spec.
func widget(gvk schema.GroupVersionKind) (*spec.Schema, error) {
	if gvk.Kind != "Widget" {
		return nil, nil
	}
	object := func(properties map[string]spec.Schema) spec.Schema {
		return spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}, Properties: properties}}
	}
	out := object(map[string]spec.Schema{
		"apiVersion": *spec.StringProperty(), "kind": *spec.StringProperty(),
		"metadata": object(map[string]spec.Schema{"name": *spec.StringProperty()}),
		"spec":     object(map[string]spec.Schema{"replicas": *spec.Int32Property()}),
	})
	return &out, nil
}

func policy(rules []admissionv1.NamedRuleWithOperations, validations ...admissionv1.Validation) *admissionv1.ValidatingAdmissionPolicy {
	return &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: 2},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: rules},
			Variables:        []admissionv1.Variable{{Name: "n", Expression: "object.spec.replicas"}},
			Validations:      validations,
		},
	}
}

func rule(group, version, resource string) admissionv1.NamedRuleWithOperations {
	return admissionv1.NamedRuleWithOperations{RuleWithOperations: admissionv1.RuleWithOperations{
		Rule: admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource}},
	}}
}

func TestExpressionsThatDontFitAreWarnedOf(t *testing.T) {
	widgets := []admissionv1.NamedRuleWithOperations{rule("example.com", "v1", "widgets")}
	for name, test := range map[string]struct {
		policy *admissionv1.ValidatingAdmissionPolicy
		field  string // of the only warning; "" is none
		text   string
	}{
		"one that fits":                {policy(widgets, admissionv1.Validation{Expression: "object.spec.replicas > 1 && variables.n > 1"}), "", ""},
		"an unknown field":             {policy(widgets, admissionv1.Validation{Expression: "object.spec.nodes > 1"}), "spec.validations[0].expression", "undefined field 'nodes'"},
		"another type":                 {policy(widgets, admissionv1.Validation{Expression: "object.spec.replicas > '1'"}), "spec.validations[0].expression", "found no matching overload for '_>_' applied to '(int, string)'"},
		"in a variable's use":          {policy(widgets, admissionv1.Validation{Expression: "variables.n > '1'"}), "spec.validations[0].expression", "no matching overload"},
		"in a message":                 {policy(widgets, admissionv1.Validation{Expression: "true", MessageExpression: "object.what"}), "spec.validations[0].messageExpression", "undefined field 'what'"},
		"a kind without a schema":      {policy([]admissionv1.NamedRuleWithOperations{rule("example.com", "v1", "gadgets")}, admissionv1.Validation{Expression: "object.x"}), "", ""},
		"a rule that names no version": {policy([]admissionv1.NamedRuleWithOperations{rule("example.com", "*", "widgets")}, admissionv1.Validation{Expression: "object.x"}), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := clienttest.New(test.policy)
			gv := schema.GroupVersion{Group: "example.com", Version: "v1"}
			c.Serve([]client.KindInfo{{GroupVersionResource: gv.WithResource("widgets"), Kind: "Widget"}, {GroupVersionResource: gv.WithResource("gadgets"), Kind: "Gadget"}})
			checker := &checker{client: c, schemas: widget}
			found, err := checker.check(t.Context(), test.policy)
			if err != nil {
				t.Fatal(err)
			}
			if test.field == "" {
				if len(found) > 0 {
					t.Errorf("warned: %v", found)
				}
				return
			}
			if len(found) != 1 || found[0].FieldRef != test.field || !strings.HasPrefix(found[0].Warning, "example.com/v1, Kind=Widget: ERROR: <input>:1:") || !strings.Contains(found[0].Warning, test.text) {
				t.Errorf("got %v", found)
			}
		})
	}
}

func TestAPolicyIsLookedAtOncePerGeneration(t *testing.T) {
	seen := policy(nil)
	seen.Status.ObservedGeneration = 2
	c := clienttest.New(seen)
	k, err := Constructor(widget).New(t.Context(), controller.Env{Client: c})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Reconcile(t.Context(), controller.Key{Name: "p"}); err != nil {
		t.Fatal(err)
	}
	if w := c.Writes(); len(w) > 0 {
		t.Errorf("written: %v", w)
	}
}
