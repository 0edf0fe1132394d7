package bootstrap

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// An action is what Apply does with a stored object.
type action int

const (
	keep    action = iota // it is as it should be
	update                // write the changed copy
	replace               // delete it and create the wanted one
)

// autoUpdate tells whether an object's owner leaves it to us.
func autoUpdate(annotations map[string]string) bool {
	return annotations[rbacv1.AutoUpdateAnnotationKey] != "false"
}

// addMeta adds missing entries to a map and tells whether there were any.
func addMeta(have *map[string]string, want map[string]string) bool {
	changed := false
	for k, v := range want {
		if _, ok := (*have)[k]; ok {
			continue
		}
		if !changed {
			*have = maps.Clone(*have)
			if *have == nil {
				*have = map[string]string{}
			}
			changed = true
		}
		(*have)[k] = v
	}
	return changed
}

func decide(changed bool) action {
	if changed {
		return update
	}
	return keep
}

// reconcileClusterRole changes have, a copy of what is stored. Rules that were added stay; those of an aggregated role are the
// aggregation's.
func reconcileClusterRole(have, want *rbacv1.ClusterRole) action {
	if !autoUpdate(have.Annotations) {
		return keep
	}
	changed := addMeta(&have.Labels, want.Labels)
	changed = addMeta(&have.Annotations, want.Annotations) || changed
	if want.AggregationRule != nil {
		if !equality.Semantic.DeepEqual(have.AggregationRule, want.AggregationRule) {
			have.AggregationRule, changed = want.AggregationRule, true
		}
		return decide(changed)
	}
	return decide(addRules(&have.Rules, want.Rules) || changed)
}

func reconcileRole(have, want *rbacv1.Role) action {
	if !autoUpdate(have.Annotations) {
		return keep
	}
	changed := addMeta(&have.Labels, want.Labels)
	changed = addMeta(&have.Annotations, want.Annotations) || changed
	return decide(addRules(&have.Rules, want.Rules) || changed)
}

func addRules(have *[]rbacv1.PolicyRule, want []rbacv1.PolicyRule) bool {
	if equality.Semantic.DeepEqual(*have, want) {
		return false // by far the most frequent case, and Covers is slow
	}
	ok, missing := validation.Covers(*have, want)
	if ok {
		return false
	}
	*have = append(slices.Clip(*have), missing...)
	return true
}

func reconcileClusterRoleBinding(have, want *rbacv1.ClusterRoleBinding) action {
	if !autoUpdate(have.Annotations) {
		return keep
	}
	if have.RoleRef != want.RoleRef {
		return replace
	}
	changed := addMeta(&have.Labels, want.Labels)
	changed = addMeta(&have.Annotations, want.Annotations) || changed
	return decide(addSubjects(&have.Subjects, want.Subjects) || changed)
}

func reconcileRoleBinding(have, want *rbacv1.RoleBinding) action {
	if !autoUpdate(have.Annotations) {
		return keep
	}
	if have.RoleRef != want.RoleRef {
		return replace
	}
	changed := addMeta(&have.Labels, want.Labels)
	changed = addMeta(&have.Annotations, want.Annotations) || changed
	return decide(addSubjects(&have.Subjects, want.Subjects) || changed)
}

func addSubjects(have *[]rbacv1.Subject, want []rbacv1.Subject) bool {
	changed := false
	for _, s := range want {
		if !slices.Contains(*have, s) {
			*have, changed = append(slices.Clip(*have), s), true
		}
	}
	return changed
}

// reconcilePriorityClass restores a system class; its value and policy cannot be updated, so a different one is replaced.
func reconcilePriorityClass(have, want *schedulingv1.PriorityClass) action {
	if have.Value != want.Value || have.GlobalDefault != want.GlobalDefault || !equality.Semantic.DeepEqual(have.PreemptionPolicy, want.PreemptionPolicy) {
		return replace
	}
	if have.Description != want.Description {
		have.Description = want.Description
		return update
	}
	return keep
}

func reconcileNamespace(_, _ *corev1.Namespace) action { return keep }
