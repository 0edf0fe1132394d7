package policy

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// PodDisruptionBudgets is the row of policy/v1 PodDisruptionBudget.
var PodDisruptionBudgets = api.Register(&api.Resource{
	Group:      policyv1.GroupName,
	Name:       "poddisruptionbudgets",
	Singular:   "poddisruptionbudget",
	Kind:       "PodDisruptionBudget",
	ShortNames: []string{"pdb"},
	Namespaced: true,
	LooseMeta:  true,
	Versions:   []api.Version{api.Serve[policyv1.PodDisruptionBudget, policyv1.PodDisruptionBudgetList]("v1")},
	Prefix:     "poddisruptionbudgets",

	PrepareCreate: api.On(func(b *policyv1.PodDisruptionBudget) { b.Status = policyv1.PodDisruptionBudgetStatus{} }),
	PrepareUpdate: api.OnUpdate(func(n, o *policyv1.PodDisruptionBudget) { n.Status = o.Status }),
	Validate: api.Check(func(b *policyv1.PodDisruptionBudget) check.Errors {
		return validateBudget(b, metav1validation.LabelSelectorValidationOptions{})
	}),
	ValidateUpdate: api.CheckUpdate(validateBudgetUpdate),
	HasGeneration:  true,
	SpecChanged: func(n, o api.Object) bool {
		return !equality.Semantic.DeepEqual(n.(*policyv1.PodDisruptionBudget).Spec, o.(*policyv1.PodDisruptionBudget).Spec)
	},

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Min Available", "string", "The minimum number of pods that must be available."),
		api.Column("Max Unavailable", "string", "The maximum number of pods that may be unavailable."),
		api.Column("Allowed Disruptions", "integer", "Calculated number of pods that may be disrupted at this time."),
		api.AgeColumn,
	},
	Cells: api.Print(func(b *policyv1.PodDisruptionBudget, p api.PrintOptions) []any {
		return []any{b.Name, orNone(b.Spec.MinAvailable), orNone(b.Spec.MaxUnavailable), int64(b.Status.DisruptionsAllowed), api.Age(b.CreationTimestamp, p)}
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *policyv1.PodDisruptionBudget) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckSame(validateBudgetStatus),
	},
})

func orNone(n *intstr.IntOrString) string {
	if n == nil {
		return "N/A"
	}
	return n.String()
}

// validateBudgetUpdate tolerates a selector that was bad before.
func validateBudgetUpdate(b, old *policyv1.PodDisruptionBudget) check.Errors {
	strict := metav1validation.LabelSelectorValidationOptions{}
	bad := old.Spec.Selector != nil && len(metav1validation.ValidateLabelSelector(old.Spec.Selector, strict, nil)) > 0
	return validateBudget(b, metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: bad})
}

func validateBudget(b *policyv1.PodDisruptionBudget, opts metav1validation.LabelSelectorValidationOptions) (e check.Errors) {
	path, spec := field.NewPath("spec"), &b.Spec
	if spec.MinAvailable != nil && spec.MaxUnavailable != nil {
		e.Invalid(path, *spec, "minAvailable and maxUnavailable cannot be both set")
	}
	if n := spec.MinAvailable; n != nil {
		e.IntOrPercent(path.Child("minAvailable"), *n)
		e.AtMost100Percent(path.Child("minAvailable"), *n)
	}
	if n := spec.MaxUnavailable; n != nil {
		e.IntOrPercent(path.Child("maxUnavailable"), *n)
		e.AtMost100Percent(path.Child("maxUnavailable"), *n)
	}
	e.Add(metav1validation.ValidateLabelSelector(spec.Selector, opts, path.Child("selector"))...)
	if p := spec.UnhealthyPodEvictionPolicy; p != nil {
		check.OneOf(&e, path.Child("unhealthyPodEvictionPolicy"), *p, policyv1.AlwaysAllow, policyv1.IfHealthyBudget)
	}
	return e
}

func validateBudgetStatus(b *policyv1.PodDisruptionBudget) (e check.Errors) {
	path, s := field.NewPath("status"), &b.Status
	e.Add(metav1validation.ValidateConditions(s.Conditions, path.Child("conditions"))...)
	e.NonNegative(path.Child("disruptionsAllowed"), int64(s.DisruptionsAllowed))
	e.NonNegative(path.Child("currentHealthy"), int64(s.CurrentHealthy))
	e.NonNegative(path.Child("desiredHealthy"), int64(s.DesiredHealthy))
	e.NonNegative(path.Child("expectedPods"), int64(s.ExpectedPods))
	return e
}
