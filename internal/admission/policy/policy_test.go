package policy

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/admission/match"
	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/clienttest"
)

// onlyGet lets everybody read, and nothing else.
var onlyGet = authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetVerb() == "get" {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
})

// config serves policies, their bindings and other objects.
func config(t *testing.T, objects ...client.Object) Config {
	t.Helper()
	c := clienttest.New(append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{"team": "a"}}})...)
	kinds := []client.KindInfo{{GroupVersionResource: corev1.SchemeGroupVersion.WithResource("configmaps"), Kind: "ConfigMap", Namespaced: true, Verbs: []string{"list", "watch"}}}
	for resource, kind := range map[string]string{
		"validatingadmissionpolicies": "ValidatingAdmissionPolicy", "validatingadmissionpolicybindings": "ValidatingAdmissionPolicyBinding",
		"mutatingadmissionpolicies": "MutatingAdmissionPolicy", "mutatingadmissionpolicybindings": "MutatingAdmissionPolicyBinding",
	} {
		kinds = append(kinds, client.KindInfo{GroupVersionResource: admissionv1.SchemeGroupVersion.WithResource(resource), Kind: kind, Verbs: []string{"list", "watch"}})
	}
	c.Serve(kinds)
	matcher, err := match.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Client: c, Matcher: matcher, Authorizer: onlyGet, Merge: func(original, patch *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		out := original.DeepCopy()
		for field, value := range patch.Object["data"].(map[string]any) {
			if err := unstructured.SetNestedField(out.Object, value, "data", field); err != nil {
				return nil, err
			}
		}
		return out, nil
	}}
}

// creation creates a ConfigMap.
func creation(data map[string]string) *admission.Request {
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}, Data: data}
	gv := corev1.SchemeGroupVersion
	form := admission.Form{
		Resource: gv.WithResource("configmaps"), Kind: gv.WithKind("ConfigMap"),
		Of: func(o runtime.Object) (runtime.Object, error) {
			out := o.DeepCopyObject()
			out.GetObjectKind().SetGroupVersionKind(gv.WithKind("ConfigMap"))
			return out, nil
		},
		Back: func(raw []byte) (runtime.Object, error) {
			out := &corev1.ConfigMap{}
			err := json.Unmarshal(raw, out)
			out.TypeMeta = metav1.TypeMeta{}
			return out, err
		},
	}
	return &admission.Request{
		Operation: admission.Create, Resource: form.Resource, Kind: form.Kind, Namespace: "ns", Name: "c", Object: o,
		User: api.UserInfo{Name: "someone"}, Forms: func() []admission.Form { return []admission.Form{form} },
	}
}

// configMaps are all operations on ConfigMaps.
func configMaps() *admissionv1.MatchResources {
	return &admissionv1.MatchResources{
		NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
		ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{"*"}, Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
		}}},
	}
}

// burn costs ten times more for every level.
func burn(levels int) string {
	return strings.Repeat("[1,2,3,4,5,6,7,8,9,10].all(x, ", levels) + "true" + strings.Repeat(")", levels)
}

func TestValidatingPolicies(t *testing.T) {
	const denied = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "
	ignore := admissionv1.Ignore
	validation := func(expression string) []admissionv1.Validation {
		return []admissionv1.Validation{{Expression: expression}}
	}
	for name, test := range map[string]struct {
		policy  admissionv1.ValidatingAdmissionPolicySpec
		binding admissionv1.ValidatingAdmissionPolicyBindingSpec
		refusal string // of a ConfigMap with a=1, empty if it is let through
		reason  metav1.StatusReason
		warning string
		audited []string // keys
	}{
		"what is true passes":     {policy: admissionv1.ValidatingAdmissionPolicySpec{Validations: validation("object.data.a == '1'")}},
		"what is false is denied": {policy: admissionv1.ValidatingAdmissionPolicySpec{Validations: validation(" object.data.a == '2' ")}, refusal: denied + "failed expression: object.data.a == '2'", reason: metav1.StatusReasonInvalid},
		"with a message and a reason": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{Validations: []admissionv1.Validation{{Expression: "false", Message: "no", Reason: new(metav1.StatusReasonForbidden)}}},
			refusal: denied + "no", reason: metav1.StatusReasonForbidden,
		},
		"with a message that is made": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{Validations: []admissionv1.Validation{{Expression: "false", Message: "no", MessageExpression: "'a is ' + object.data.a"}}},
			refusal: denied + "a is 1", reason: metav1.StatusReasonInvalid,
		},
		"with a message of several lines, which doesn't count": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{Validations: []admissionv1.Validation{{Expression: "false", Message: "no", MessageExpression: `'a\nb'`}}},
			refusal: denied + "no", reason: metav1.StatusReasonInvalid,
		},
		"a binding that warns": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{Validations: validation("false")},
			binding: admissionv1.ValidatingAdmissionPolicyBindingSpec{ValidationActions: []admissionv1.ValidationAction{admissionv1.Warn}},
			warning: "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: false",
		},
		"a binding that audits": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{Validations: validation("false")},
			binding: admissionv1.ValidatingAdmissionPolicyBindingSpec{ValidationActions: []admissionv1.ValidationAction{admissionv1.Audit}},
			audited: []string{"validation.policy.admission.k8s.io/validation_failure"},
		},
		"a binding for other namespaces": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{Validations: validation("false")},
			binding: admissionv1.ValidatingAdmissionPolicyBindingSpec{MatchResources: &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "b"}}}},
		},
		"an error": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{Validations: validation("object.data.b == '1'")},
			refusal: denied + "expression 'object.data.b == '1'' resulted in error: no such key: b", reason: metav1.StatusReasonInvalid,
		},
		"an error that is ignored": {policy: admissionv1.ValidatingAdmissionPolicySpec{FailurePolicy: &ignore, Validations: validation("object.data.b == '1'")}},
		"what costs too much": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{Validations: validation(burn(8))},
			refusal: denied + "expression '" + burn(8) + "' resulted in error: operation cancelled: actual cost limit exceeded", reason: metav1.StatusReasonInvalid,
		},
		"conditions that aren't met": {policy: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConditions: []admissionv1.MatchCondition{{Name: "not-them", Expression: "request.userInfo.username != 'someone'"}}, Validations: validation("false"),
		}},
		"variables, of which only those in use are evaluated": {
			policy: admissionv1.ValidatingAdmissionPolicySpec{
				Variables:   []admissionv1.Variable{{Name: "bad", Expression: "object.data.b"}, {Name: "a", Expression: "object.data.a"}, {Name: "twice", Expression: "variables.a + variables.a"}},
				Validations: validation("variables.twice != '11'"),
			},
			refusal: denied + "failed expression: variables.twice != '11'", reason: metav1.StatusReasonInvalid,
		},
		"a parameter": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{ParamKind: &admissionv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}, Validations: validation("object.data.a != params.data.forbidden")},
			binding: admissionv1.ValidatingAdmissionPolicyBindingSpec{ParamRef: &admissionv1.ParamRef{Name: "params", ParameterNotFoundAction: new(admissionv1.DenyAction)}},
			refusal: denied + "failed expression: object.data.a != params.data.forbidden", reason: metav1.StatusReasonInvalid,
		},
		"a parameter that isn't there": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{ParamKind: &admissionv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}, Validations: validation("true")},
			binding: admissionv1.ValidatingAdmissionPolicyBindingSpec{ParamRef: &admissionv1.ParamRef{Name: "away", ParameterNotFoundAction: new(admissionv1.DenyAction)}},
			refusal: denied + "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction", reason: metav1.StatusReasonInvalid,
		},
		"a parameter that isn't there and needn't be": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{ParamKind: &admissionv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}, Validations: validation("false")},
			binding: admissionv1.ValidatingAdmissionPolicyBindingSpec{ParamRef: &admissionv1.ParamRef{Name: "away", ParameterNotFoundAction: new(admissionv1.AllowAction)}},
		},
		"a parameter of no kind": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{ParamKind: &admissionv1.ParamKind{APIVersion: "v1", Kind: "Nothing"}, Validations: validation("true")},
			binding: admissionv1.ValidatingAdmissionPolicyBindingSpec{ParamRef: &admissionv1.ParamRef{Name: "away"}},
			refusal: "ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource referenced by paramKind: '/v1, Kind=Nothing'", reason: metav1.StatusReasonInvalid,
		},
		"who may do something": {policy: admissionv1.ValidatingAdmissionPolicySpec{
			Validations: validation("authorizer.group('').resource('configmaps').check('get').allowed() && !authorizer.group('').resource('configmaps').check('delete').allowed()"),
		}},
		"an audit annotation": {
			policy:  admissionv1.ValidatingAdmissionPolicySpec{AuditAnnotations: []admissionv1.AuditAnnotation{{Key: "a", ValueExpression: "string(object.data.a)"}, {Key: "none", ValueExpression: "null"}}},
			audited: []string{"p/a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.policy.MatchConstraints = configMaps()
			test.binding.PolicyName = "p"
			if test.binding.ValidationActions == nil {
				test.binding.ValidationActions = []admissionv1.ValidationAction{admissionv1.Deny}
			}
			plugin, err := NewValidating(t.Context(), config(t,
				&admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: test.policy},
				&admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: test.binding},
				&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "params"}, Data: map[string]string{"forbidden": "1"}},
			))
			if err != nil {
				t.Fatal(err)
			}
			r := creation(map[string]string{"a": "1"})
			err = plugin.Validate(t.Context(), r)
			refused(t, err, test.refusal, test.reason)
			if got := strings.Join(r.Warnings, "\n"); got != test.warning {
				t.Errorf("warnings = %q, want %q", got, test.warning)
			}
			if got := slices.Sorted(maps.Keys(r.Annotations)); !slices.Equal(got, test.audited) {
				t.Errorf("audit annotations = %v, want %v", r.Annotations, test.audited)
			}
		})
	}
}

// refused expects an error by its text after the resource's and the reason, or none.
func refused(t *testing.T, err error, text string, reason metav1.StatusReason) {
	t.Helper()
	if text == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		t.Fatalf("error = %v, want %s", err, text)
	}
	if got, want := status.Status().Message, `configmaps "c" is forbidden: `+text; got != want {
		t.Errorf("refusal = %q, want %q", got, want)
	}
	if got := status.Status().Reason; got != reason {
		t.Errorf("reason = %s, want %s", got, reason)
	}
}

// unmutated expects an error of a policy that mutates by its text, or none.
func unmutated(t *testing.T, err error, text string) {
	t.Helper()
	var status apierrors.APIStatus
	switch {
	case text == "" && err == nil:
	case !errors.As(err, &status):
		t.Errorf("error = %v, want %q", err, text)
	case status.Status().Message != text || status.Status().Code != 403 || status.Status().Reason != metav1.StatusReasonInvalid:
		t.Errorf("refusal = %+v, want %q", status.Status(), text)
	}
}

func TestMutatingPolicies(t *testing.T) {
	const denied = "policy 'p' with binding 'b' denied request: "
	ignore := admissionv1.Ignore
	apply := func(expressions ...string) (out []admissionv1.Mutation) {
		for _, e := range expressions {
			out = append(out, admissionv1.Mutation{PatchType: admissionv1.PatchTypeApplyConfiguration, ApplyConfiguration: &admissionv1.ApplyConfiguration{Expression: e}})
		}
		return out
	}
	patch := func(expression string) []admissionv1.Mutation {
		return []admissionv1.Mutation{{PatchType: admissionv1.PatchTypeJSONPatch, JSONPatch: &admissionv1.JSONPatch{Expression: expression}}}
	}
	for name, test := range map[string]struct {
		policy  admissionv1.MutatingAdmissionPolicySpec
		data    map[string]string // afterwards
		refusal string
		again   bool
	}{
		"fields are applied, one mutation after the other": {
			policy: admissionv1.MutatingAdmissionPolicySpec{Mutations: apply("Object{data: {'b': object.data.a}}", "Object{data: {'c': object.data.b}}")},
			data:   map[string]string{"a": "1", "b": "1", "c": "1"}, again: true,
		},
		"what changes nothing asks for no second round": {policy: admissionv1.MutatingAdmissionPolicySpec{Mutations: apply("Object{data: {'a': '1'}}")}, data: map[string]string{"a": "1"}},
		"a patch": {
			policy: admissionv1.MutatingAdmissionPolicySpec{Mutations: patch("[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('x~y'), value: object.data.a}, JSONPatch{op: 'remove', path: '/data/a'}]")},
			data:   map[string]string{"x~y": "1"}, again: true,
		},
		"a patch whose test fails": {
			policy: admissionv1.MutatingAdmissionPolicySpec{Mutations: patch("[JSONPatch{op: 'test', path: '/data/a', value: '2'}, JSONPatch{op: 'remove', path: '/data/a'}]")},
			data:   map[string]string{"a": "1"},
		},
		"a patch of what isn't there": {
			policy:  admissionv1.MutatingAdmissionPolicySpec{Mutations: patch("[JSONPatch{op: 'remove', path: '/data/b'}]")},
			data:    map[string]string{"a": "1"},
			refusal: denied + "JSON Patch: error in remove for path: '/data/b': Unable to remove nonexistent key: b: missing value",
		},
		"an error that is ignored undoes the mutations before it": {
			policy: admissionv1.MutatingAdmissionPolicySpec{FailurePolicy: &ignore, Mutations: apply("Object{data: {'b': '2'}}", "Object{data: {'c': object.data.away}}")},
			data:   map[string]string{"a": "1"},
		},
		"what costs too much": {
			policy:  admissionv1.MutatingAdmissionPolicySpec{Mutations: apply(burn(8) + " ? Object{} : Object{}")},
			data:    map[string]string{"a": "1"},
			refusal: denied + "expression '" + burn(8) + " ? Object{} : Object{}' resulted in error: operation cancelled: actual cost limit exceeded",
		},
		"conditions that aren't met": {
			policy: admissionv1.MutatingAdmissionPolicySpec{MatchConditions: []admissionv1.MatchCondition{{Name: "never", Expression: "false"}}, Mutations: apply("Object{data: {'b': '2'}}")},
			data:   map[string]string{"a": "1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.policy.MatchConstraints = configMaps()
			plugin, err := NewMutating(t.Context(), config(t,
				&admissionv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: test.policy},
				&admissionv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "p"}},
			))
			if err != nil {
				t.Fatal(err)
			}
			r := creation(map[string]string{"a": "1"})
			unmutated(t, plugin.Admit(t.Context(), r), test.refusal)
			if got := r.Object.(*corev1.ConfigMap).Data; test.refusal == "" && !maps.Equal(got, test.data) {
				t.Errorf("data = %v, want %v", got, test.data)
			}
			if r.Again != test.again {
				t.Errorf("a second round is asked for: %v, want %v", r.Again, test.again)
			}
		})
	}
}

func TestAPolicyThatChangedIsCompiledAnew(t *testing.T) {
	cfg := config(t,
		&admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: admissionv1.ValidatingAdmissionPolicySpec{MatchConstraints: configMaps(), Validations: []admissionv1.Validation{{Expression: "true"}}}},
		&admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "p", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}}},
	)
	plugin, err := NewValidating(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		refused(t, plugin.Validate(t.Context(), creation(nil)), "", "")
	}
	gvr := admissionv1.SchemeGroupVersion.WithResource("validatingadmissionpolicies")
	o, err := cfg.Client.Get(t.Context(), gvr, "", "p")
	if err != nil {
		t.Fatal(err)
	}
	changed := o.(*admissionv1.ValidatingAdmissionPolicy).DeepCopy()
	changed.Spec.Validations[0].Expression = "false"
	if _, err := cfg.Client.Update(t.Context(), gvr, "", changed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	refused(t, plugin.Validate(t.Context(), creation(nil)), "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: false", metav1.StatusReasonInvalid)
}
