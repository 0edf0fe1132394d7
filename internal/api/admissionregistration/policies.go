package admissionregistration

import (
	"cmp"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

const paramKindText = "ParamKind specifies the kind of resources used to parameterize this policy"

// ValidatingAdmissionPolicies is the row of admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy.
var ValidatingAdmissionPolicies = api.Register(&api.Resource{
	Group: group, Name: "validatingadmissionpolicies", Singular: "validatingadmissionpolicy", Kind: "ValidatingAdmissionPolicy",
	Categories:   []string{"api-extensions"},
	AnyFinalizer: true,
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[admissionv1.ValidatingAdmissionPolicy, admissionv1.ValidatingAdmissionPolicyList]("v1")},
	Prefix:       "validatingadmissionpolicies",

	Default: api.On(func(p *admissionv1.ValidatingAdmissionPolicy) {
		setDefault(&p.Spec.FailurePolicy, admissionv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	}),
	PrepareCreate: api.On(func(p *admissionv1.ValidatingAdmissionPolicy) {
		p.Status = admissionv1.ValidatingAdmissionPolicyStatus{}
	}),
	PrepareUpdate:  api.OnUpdate(func(p, old *admissionv1.ValidatingAdmissionPolicy) { old.Status.DeepCopyInto(&p.Status) }),
	Validate:       api.Check(func(p *admissionv1.ValidatingAdmissionPolicy) check.Errors { return validateValidatingPolicy(p, nil) }),
	ValidateUpdate: api.CheckUpdate(validateValidatingPolicy),
	HasGeneration:  true,
	Status: &api.Status{
		MetaOnUpdate: "-",
		PrepareUpdate: api.OnUpdate(func(p, old *admissionv1.ValidatingAdmissionPolicy) {
			old.Spec.DeepCopyInto(&p.Spec)
			metav1.ResetObjectMetaForStatus(p, old)
		}),
		ResetFields:    []string{"metadata", "spec"},
		ValidateUpdate: api.CheckSame(validatePolicyStatus),
	},
	Columns: []metav1.TableColumnDefinition{
		api.NameColumn, api.Column("Validations", "integer", "Validations indicates the number of validation rules defined in this configuration"),
		api.Column("ParamKind", "string", paramKindText), api.AgeColumn,
	},
	Cells: api.Print(func(p *admissionv1.ValidatingAdmissionPolicy, o api.PrintOptions) []any {
		return []any{p.Name, int64(len(p.Spec.Validations)), kindText(p.Spec.ParamKind), api.Age(p.CreationTimestamp, o)}
	}),
})

// MutatingAdmissionPolicies is the row of admissionregistration.k8s.io/v1 MutatingAdmissionPolicy.
var MutatingAdmissionPolicies = api.Register(&api.Resource{
	Group: group, Name: "mutatingadmissionpolicies", Singular: "mutatingadmissionpolicy", Kind: "MutatingAdmissionPolicy",
	Categories:   []string{"api-extensions"},
	AnyFinalizer: true,
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[admissionv1.MutatingAdmissionPolicy, admissionv1.MutatingAdmissionPolicyList]("v1"), former[admissionv1.MutatingAdmissionPolicy]()},
	WrittenAs:    "v1beta1",
	Prefix:       "mutatingadmissionpolicies",

	Default: api.On(func(p *admissionv1.MutatingAdmissionPolicy) {
		setDefault(&p.Spec.FailurePolicy, admissionv1.Fail)
		defaultMatch(p.Spec.MatchConstraints)
	}),
	Validate:       api.Check(func(p *admissionv1.MutatingAdmissionPolicy) check.Errors { return validateMutatingPolicy(p, nil) }),
	ValidateUpdate: api.CheckUpdate(validateMutatingPolicy),
	HasGeneration:  true,
	Columns: []metav1.TableColumnDefinition{
		api.NameColumn, api.Column("Mutations", "integer", "Mutation indicates the number of mutations rules defined in this configuration"),
		api.Column("ParamKind", "string", paramKindText), api.AgeColumn,
	},
	Cells: api.Print(func(p *admissionv1.MutatingAdmissionPolicy, o api.PrintOptions) []any {
		return []any{p.Name, int64(len(p.Spec.Mutations)), kindText(p.Spec.ParamKind), api.Age(p.CreationTimestamp, o)}
	}),
})

var bindingColumns = []metav1.TableColumnDefinition{
	api.NameColumn, api.Column("PolicyName", "string", "PolicyName indicates the policy definition which the policy binding binded to"),
	api.Column("ParamRef", "string", "ParamRef indicates the param resource which sets the configuration param"), api.AgeColumn,
}

// ValidatingAdmissionPolicyBindings is the row of admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding.
var ValidatingAdmissionPolicyBindings = api.Register(&api.Resource{
	Group: group, Name: "validatingadmissionpolicybindings", Singular: "validatingadmissionpolicybinding", Kind: "ValidatingAdmissionPolicyBinding",
	Categories:   []string{"api-extensions"},
	AnyFinalizer: true,
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[admissionv1.ValidatingAdmissionPolicyBinding, admissionv1.ValidatingAdmissionPolicyBindingList]("v1")},
	Prefix:       "validatingadmissionpolicybindings",

	Default:        api.On(func(b *admissionv1.ValidatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) }),
	Validate:       api.Check(validateValidatingBinding),
	ValidateUpdate: api.CheckSame(validateValidatingBinding),
	HasGeneration:  true,
	Columns:        bindingColumns,
	Cells: api.Print(func(b *admissionv1.ValidatingAdmissionPolicyBinding, o api.PrintOptions) []any {
		return []any{b.Name, b.Spec.PolicyName, refText(b.Spec.ParamRef), api.Age(b.CreationTimestamp, o)}
	}),
})

// MutatingAdmissionPolicyBindings is the row of admissionregistration.k8s.io/v1 MutatingAdmissionPolicyBinding.
var MutatingAdmissionPolicyBindings = api.Register(&api.Resource{
	Group: group, Name: "mutatingadmissionpolicybindings", Singular: "mutatingadmissionpolicybinding", Kind: "MutatingAdmissionPolicyBinding",
	Categories:   []string{"api-extensions"},
	AnyFinalizer: true,
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[admissionv1.MutatingAdmissionPolicyBinding, admissionv1.MutatingAdmissionPolicyBindingList]("v1"), former[admissionv1.MutatingAdmissionPolicyBinding]()},
	WrittenAs:    "v1beta1",
	Prefix:       "mutatingadmissionpolicybindings",

	Default:        api.On(func(b *admissionv1.MutatingAdmissionPolicyBinding) { defaultMatch(b.Spec.MatchResources) }),
	Validate:       api.Check(validateMutatingBinding),
	ValidateUpdate: api.CheckSame(validateMutatingBinding),
	HasGeneration:  true,
	Columns:        bindingColumns,
	Cells: api.Print(func(b *admissionv1.MutatingAdmissionPolicyBinding, o api.PrintOptions) []any {
		return []any{b.Name, b.Spec.PolicyName, refText(b.Spec.ParamRef), api.Age(b.CreationTimestamp, o)}
	}),
})

func defaultMatch(m *admissionv1.MatchResources) {
	if m == nil {
		return
	}
	setDefault(&m.MatchPolicy, admissionv1.Equivalent)
	setDefault(&m.NamespaceSelector, metav1.LabelSelector{})
	setDefault(&m.ObjectSelector, metav1.LabelSelector{})
	for _, rules := range [][]admissionv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			setDefault(&rules[i].Scope, admissionv1.AllScopes)
		}
	}
}

const unset = "<unset>"

func kindText(k *admissionv1.ParamKind) string {
	if k == nil {
		return unset
	}
	return k.APIVersion + "/" + k.Kind
}

func refText(r *admissionv1.ParamRef) string {
	switch {
	case r == nil, r.Name == "" && r.Selector == nil:
		return unset
	case r.Name == "":
		return r.Selector.String()
	}
	return cmp.Or(r.Namespace, "*") + "/" + r.Name
}

// former is v1beta1 of a mutating kind: v1.36 still stores it, for the sake of a downgrade, and does not serve it. Its encoding is that of v1.
func former[T any, PT interface {
	*T
	api.Object
}]() api.Version {
	return api.Version{Version: "v1beta1", StoredOnly: true, New: func() api.Object { return PT(new(T)) }}
}
