package core

import (
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

func validateAffinity(a *corev1.Affinity, path *field.Path, opts *podOptions) (e check.Errors) {
	if a == nil {
		return nil
	}
	if n := a.NodeAffinity; n != nil {
		at := path.Child("nodeAffinity")
		if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			e.Add(ValidateNodeSelector(r, opts.badNodeAffinityValue, at.Child("requiredDuringSchedulingIgnoredDuringExecution"))...)
		}
		for i, term := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			item := at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
			validateWeight(&e, term.Weight, item)
			e.Add(validateNodeSelectorTerm(term.Preference, true, item.Child("preference"))...)
		}
	}
	terms := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, at *field.Path) {
		for i := range required {
			e.Add(validateAffinityTerm(&required[i], at.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i), opts)...)
		}
		for i := range preferred {
			item := at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
			validateWeight(&e, preferred[i].Weight, item)
			e.Add(validateAffinityTerm(&preferred[i].PodAffinityTerm, item.Child("podAffinityTerm"), opts)...)
		}
	}
	if p := a.PodAffinity; p != nil {
		terms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, path.Child("podAffinity"))
	}
	if p := a.PodAntiAffinity; p != nil {
		terms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, path.Child("podAntiAffinity"))
	}
	return e
}

func validateWeight(e *check.Errors, weight int32, path *field.Path) {
	if weight <= 0 || weight > 100 {
		e.Invalid(path.Child("weight"), weight, "must be in the range 1-100")
	}
}

// ValidateNodeSelector checks a selector of nodes; badValues tolerates values that no label can have.
func ValidateNodeSelector(s *corev1.NodeSelector, badValues bool, path *field.Path) (e check.Errors) {
	at := path.Child("nodeSelectorTerms")
	if len(s.NodeSelectorTerms) == 0 {
		e.Required(at, "must have at least one node selector term")
		return e
	}
	for i, term := range s.NodeSelectorTerms {
		e.Add(validateNodeSelectorTerm(term, badValues, at.Index(i))...)
	}
	return e
}

func validateNodeSelectorTerm(t corev1.NodeSelectorTerm, badValues bool, path *field.Path) (e check.Errors) {
	for i, r := range t.MatchExpressions {
		e.Add(validateNodeExpression(r, badValues, path.Child("matchExpressions").Index(i))...)
	}
	for i, r := range t.MatchFields {
		e.Add(validateNodeField(r, path.Child("matchFields").Index(i))...)
	}
	return e
}

func validateNodeExpression(r corev1.NodeSelectorRequirement, badValues bool, path *field.Path) (e check.Errors) {
	values := path.Child("values")
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			e.Required(values, "must be specified when `operator` is 'In' or 'NotIn'")
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			e.Forbidden(values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 {
			e.Required(values, "must be specified single value when `operator` is 'Lt' or 'Gt'")
		}
	default:
		e.Invalid(path.Child("operator"), r.Operator, "not a valid selector operator")
	}
	e.Add(metav1validation.ValidateLabelName(r.Key, path.Child("key"))...)
	if badValues {
		return e
	}
	for i, v := range r.Values {
		e.Messages(values.Index(i), v, validation.IsValidLabelValue(v))
	}
	return e
}

func validateNodeField(r corev1.NodeSelectorRequirement, path *field.Path) (e check.Errors) {
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) != 1 {
			e.Required(path.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector")
		}
	default:
		e.Invalid(path.Child("operator"), r.Operator, "not a valid selector operator")
	}
	if r.Key != metav1.ObjectNameField {
		e.Invalid(path.Child("key"), r.Key, "not a valid field selector key")
		return e
	}
	for i, v := range r.Values {
		e.Messages(path.Child("values").Index(i), v, apivalidation.NameIsDNSSubdomain(v, false))
	}
	return e
}

func validateAffinityTerm(t *corev1.PodAffinityTerm, path *field.Path, opts *podOptions) (e check.Errors) {
	bend := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: opts.badSelectorValue}
	e.Add(metav1validation.ValidateLabelSelector(t.LabelSelector, bend, path.Child("labelSelector"))...)
	e.Add(metav1validation.ValidateLabelSelector(t.NamespaceSelector, bend, path.Child("namespaceSelector"))...)
	for _, ns := range t.Namespaces {
		e.Messages(path.Child("namespace"), ns, apivalidation.ValidateNamespaceName(ns, false))
	}
	e.Add(validateMatchLabelKeys(t.MatchLabelKeys, t.MismatchLabelKeys, t.LabelSelector, path)...)
	e.NonEmptyf(path.Child("topologyKey"), t.TopologyKey, "can not be empty")
	e.Add(metav1validation.ValidateLabelName(t.TopologyKey, path.Child("topologyKey"))...)
	return e
}

// validateMatchLabelKeys checks keys whose values are merged into the selector when a pod is created. On an update the selector has them
// already, so a key may stand in it once but not twice.
func validateMatchLabelKeys(match, mismatch []string, selector *metav1.LabelSelector, path *field.Path) (e check.Errors) {
	keys := func(list []string, at *field.Path) {
		if len(list) == 0 {
			return
		}
		if selector == nil {
			e.Forbidden(at, "must not be specified when labelSelector is not set")
			return
		}
		for i, key := range list {
			e.Add(metav1validation.ValidateLabelName(key, at.Index(i))...)
		}
	}
	keys(match, path.Child("matchLabelKeys"))
	keys(mismatch, path.Child("mismatchLabelKeys"))
	if selector != nil {
		index := map[string]int{}
		for i, key := range match {
			index[key] = i
		}
		selected := sets.KeySet(selector.MatchLabels)
		for _, x := range selector.MatchExpressions {
			if i, ok := index[x.Key]; ok && selected.Has(x.Key) {
				e.Invalid(path.Index(i), x.Key, "exists in both matchLabelKeys and labelSelector")
			}
			selected.Insert(x.Key)
		}
	}
	other := sets.New(mismatch...)
	for i, key := range match {
		if other.Has(key) {
			e.Invalid(path.Child("matchLabelKeys").Index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys")
		}
	}
	return e
}

func validateSpread(constraints []corev1.TopologySpreadConstraint, path *field.Path, opts *podOptions) (e check.Errors) {
	type identity struct {
		key  string
		when corev1.UnsatisfiableConstraintAction
	}
	last := map[identity]int{}
	for i, c := range constraints {
		last[identity{c.TopologyKey, c.WhenUnsatisfiable}] = i
	}
	for i := range constraints {
		c, at := &constraints[i], path.Index(i)
		e.Positive(at.Child("maxSkew"), int64(c.MaxSkew))
		e.NonEmptyf(at.Child("topologyKey"), c.TopologyKey, "can not be empty")
		check.OneOf(&e, at.Child("whenUnsatisfiable"), c.WhenUnsatisfiable, corev1.DoNotSchedule, corev1.ScheduleAnyway)
		if last[identity{c.TopologyKey, c.WhenUnsatisfiable}] > i {
			e.Duplicate(at.Child("{topologyKey, whenUnsatisfiable}"), "{"+c.TopologyKey+", "+string(c.WhenUnsatisfiable)+"}")
		}
		if c.MinDomains != nil {
			e.Positive(at.Child("minDomains"), int64(*c.MinDomains))
			if c.WhenUnsatisfiable != corev1.DoNotSchedule {
				e.Invalidf(at.Child("minDomains"), c.MinDomains, "can only use minDomains if whenUnsatisfiable=%s, not %s", corev1.DoNotSchedule, c.WhenUnsatisfiable)
			}
		}
		if p := c.NodeAffinityPolicy; p != nil {
			check.OneOf(&e, at.Child("nodeAffinityPolicy"), *p, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
		}
		if p := c.NodeTaintsPolicy; p != nil {
			check.OneOf(&e, at.Child("nodeTaintsPolicy"), *p, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
		}
		if opts.oldSpreadKeys {
			e.Add(validateOldSpreadKeys(c.MatchLabelKeys, c.LabelSelector, at.Child("matchLabelKeys"))...)
		} else {
			e.Add(validateMatchLabelKeys(c.MatchLabelKeys, nil, c.LabelSelector, at)...)
		}
		if !opts.badSpreadSelector {
			e.Add(metav1validation.ValidateLabelSelector(c.LabelSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
		}
	}
	return e
}

// validateOldSpreadKeys is the rule from before keys were merged into the selector.
func validateOldSpreadKeys(keys []string, selector *metav1.LabelSelector, path *field.Path) (e check.Errors) {
	if len(keys) == 0 {
		return nil
	}
	selected := sets.New[string]()
	if selector == nil {
		e.Forbidden(path, "must not be specified when labelSelector is not set")
	} else {
		selected = sets.KeySet(selector.MatchLabels)
		for _, x := range selector.MatchExpressions {
			selected.Insert(x.Key)
		}
	}
	for i, key := range keys {
		e.Add(metav1validation.ValidateLabelName(key, path.Index(i))...)
		if selected.Has(key) {
			e.Invalid(path.Index(i), key, "exists in both matchLabelKeys and labelSelector")
		}
	}
	return e
}
