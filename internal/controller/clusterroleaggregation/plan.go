package clusterroleaggregation

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// aggregated returns the rules of the roles that the selectors choose, by name and each rule once; never the role's own.
func aggregated(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	out := []rbacv1.PolicyRule{}
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, err
		}
		var chosen []*rbacv1.ClusterRole
		for _, r := range all {
			if r.Name != role.Name && selector.Matches(labels.Set(r.Labels)) {
				chosen = append(chosen, r)
			}
		}
		slices.SortFunc(chosen, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
		for _, r := range chosen {
			for _, rule := range r.Rules {
				if !contains(out, rule) {
					out = append(out, rule)
				}
			}
		}
	}
	return out, nil
}

func contains(rules []rbacv1.PolicyRule, rule rbacv1.PolicyRule) bool {
	return slices.ContainsFunc(rules, func(have rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(have, rule) })
}
