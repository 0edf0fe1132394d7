package quota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
)

// An Evaluator knows what objects of one resource use.
type Evaluator interface {
	// Handles tells whether a request can change usage.
	Handles(r Request) bool
	// Names returns those names of a quota that concern this resource.
	Names(in []corev1.ResourceName) []corev1.ResourceName
	// InScope tells whether an object is in a scope.
	InScope(s corev1.ScopedResourceSelectorRequirement, o runtime.Object) bool
	// Constraints tells what an object must say to be counted against these names.
	Constraints(required []corev1.ResourceName, o runtime.Object) error
	// Usage returns what an object uses.
	Usage(o runtime.Object, now time.Time) corev1.ResourceList
}

// For returns the evaluator of a resource in a cluster that has these devices.
func For(gr schema.GroupResource, d Devices) Evaluator {
	switch gr {
	case schema.GroupResource{Resource: "pods"}:
		return pods{}
	case schema.GroupResource{Resource: "services"}:
		return services{}
	case schema.GroupResource{Resource: "persistentvolumeclaims"}:
		return claims{}
	case schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaims"}:
		return resourceClaims{d}
	}
	return newCounts(gr)
}

// CountName is the name by which a quota counts objects of a resource.
func CountName(gr schema.GroupResource) corev1.ResourceName {
	if gr.Group == "" {
		return corev1.ResourceName("count/" + gr.Resource)
	}
	return corev1.ResourceName("count/" + gr.Resource + "." + gr.Group)
}

// scopesOf returns all scopes of a quota.
func scopesOf(q *corev1.ResourceQuota) []corev1.ScopedResourceSelectorRequirement {
	var out []corev1.ScopedResourceSelectorRequirement
	for _, s := range q.Spec.Scopes {
		out = append(out, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		out = append(out, q.Spec.ScopeSelector.MatchExpressions...)
	}
	return out
}

// inScopes tells whether an object is in all scopes of a quota.
func inScopes(q *corev1.ResourceQuota, e Evaluator, o runtime.Object) bool {
	for _, s := range scopesOf(q) {
		if !e.InScope(s, o) {
			return false
		}
	}
	return true
}

// matchesValue tells whether a scope's selector accepts an object's value of it; none is "".
func matchesValue(s corev1.ScopedResourceSelectorRequirement, value string) bool {
	ops := map[corev1.ScopeSelectorOperator]selection.Operator{
		corev1.ScopeSelectorOpIn:           selection.In,
		corev1.ScopeSelectorOpNotIn:        selection.NotIn,
		corev1.ScopeSelectorOpExists:       selection.Exists,
		corev1.ScopeSelectorOpDoesNotExist: selection.DoesNotExist,
	}
	req, err := labels.NewRequirement(string(s.ScopeName), ops[s.Operator], s.Values)
	if err != nil {
		return false
	}
	set := labels.Set{}
	if value != "" {
		set[string(s.ScopeName)] = value
	}
	return req.Matches(set)
}

// Usage returns what objects use of a quota's names.
func Usage(q *corev1.ResourceQuota, e Evaluator, objects []runtime.Object, now time.Time) corev1.ResourceList {
	used := corev1.ResourceList{}
	names := e.Names(Names(q.Spec.Hard))
	for _, n := range names {
		used[n] = count(0)
	}
	for _, o := range objects {
		if inScopes(q, e, o) {
			used = Add(used, Mask(e.Usage(o, now), names))
		}
	}
	return used
}
