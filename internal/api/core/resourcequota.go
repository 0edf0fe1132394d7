package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// ResourceQuotas is the row of core/v1 ResourceQuota.
var ResourceQuotas = api.Register(&api.Resource{
	Name:       "resourcequotas",
	Singular:   "resourcequota",
	Kind:       "ResourceQuota",
	ShortNames: []string{"quota"},
	Namespaced: true,
	Versions:   []api.Version{api.Serve[corev1.ResourceQuota, corev1.ResourceQuotaList]("v1")},
	Prefix:     "resourcequotas",

	Default: api.On(func(q *corev1.ResourceQuota) {
		roundUp(q.Spec.Hard)
		roundUp(q.Status.Hard)
		roundUp(q.Status.Used)
	}),
	PrepareCreate: api.On(func(q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} }),
	PrepareUpdate: api.OnUpdate(func(n, o *corev1.ResourceQuota) { n.Status = o.Status }),
	Validate: api.Check(func(q *corev1.ResourceQuota) (e check.Errors) {
		e.Add(validateQuotaSpec(&q.Spec)...)
		e.Add(validateQuotaStatus(q)...)
		return e
	}),
	ValidateUpdate:           api.CheckUpdate(validateQuotaUpdate),
	AllowUnconditionalUpdate: true,
	ReturnsDeleted:           true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Request", "string", "Request represents a minimum amount of cpu/memory that a container may consume."),
		api.Column("Limit", "string", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."),
		api.AgeColumn,
	},
	Cells: api.Print(quotaCells),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *corev1.ResourceQuota) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckSame(validateQuotaStatus),
	},
})

func validateQuotaList(list corev1.ResourceList, path *field.Path) (e check.Errors) {
	for _, name := range sortedNames(list) {
		at := path.Key(string(name))
		e.Add(validateResourceName(name, at)...)
		if !strings.Contains(string(name), "/") && !isQuotaResource(name) {
			e.Invalid(at, name, "must be a standard resource for quota")
		}
		e.Add(validateQuantity(name, list[name], at)...)
	}
	return e
}

func validateQuotaStatus(q *corev1.ResourceQuota) (e check.Errors) {
	e.Add(validateQuotaList(q.Status.Hard, field.NewPath("status", "hard"))...)
	e.Add(validateQuotaList(q.Status.Used, field.NewPath("status", "used"))...)
	return e
}

func validateQuotaSpec(s *corev1.ResourceQuotaSpec) (e check.Errors) {
	path := field.NewPath("spec")
	e.Add(validateQuotaList(s.Hard, path.Child("hard"))...)
	scopes := path.Child("scopes")
	faults := scopeFaults{}
	for _, scope := range s.Scopes {
		if !slices.Contains(quotaScopes, scope) {
			e.Invalid(scopes, s.Scopes, "unsupported scope")
		}
		e.Add(faults.of(scope, s, scopes, s.Scopes)...)
	}
	if conflicting(s.Scopes) {
		e.Invalid(scopes, s.Scopes, "conflicting scopes")
	}
	if s.ScopeSelector != nil {
		e.Add(validateScopeSelector(s, path.Child("scopeSelector", "matchExpressions"))...)
	}
	return e
}

var quotaScopes = []corev1.ResourceQuotaScope{
	corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort,
	corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeVolumeAttributesClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity,
}

// The resources of pods that scopes can narrow, besides the number of pods.
var scopedCompute = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
}

// scopeFaults remembers what is wrong with scopes: one that is given often is looked at once, and refused a few times.
type scopeFaults map[corev1.ResourceQuotaScope]*scopeFault

type scopeFault struct {
	errs  check.Errors
	times int
}

const maxSameScope = 100

func (f scopeFaults) of(scope corev1.ResourceQuotaScope, s *corev1.ResourceQuotaSpec, path *field.Path, value any) check.Errors {
	found := f[scope]
	if found == nil {
		found = &scopeFault{errs: validateScopeApplies(scope, s, path, value)}
		f[scope] = found
	}
	if found.times++; found.times > maxSameScope {
		return nil
	}
	return found.errs
}

// validateScopeApplies refuses limits on resources that the scope does not have.
func validateScopeApplies(scope corev1.ResourceQuotaScope, s *corev1.ResourceQuotaSpec, path *field.Path, value any) (e check.Errors) {
	if !slices.Contains(quotaScopes, scope) {
		return nil
	}
	for _, name := range sortedNames(s.Hard) {
		applies := true
		switch scope {
		case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeNotBestEffort,
			corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
			applies = name == corev1.ResourcePods || slices.Contains(scopedCompute, name)
		case corev1.ResourceQuotaScopeBestEffort:
			applies = name == corev1.ResourcePods
		case corev1.ResourceQuotaScopeVolumeAttributesClass:
			applies = name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage
		}
		if isQuotaResource(name) && !applies {
			e.Invalid(path, value, "unsupported scope applied to resource")
		}
	}
	return e
}

func conflicting(scopes []corev1.ResourceQuotaScope) bool {
	all := sets.New(scopes...)
	return all.HasAll(corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort) ||
		all.HasAll(corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating)
}

func validateScopeSelector(s *corev1.ResourceQuotaSpec, path *field.Path) (e check.Errors) {
	var scopes []corev1.ResourceQuotaScope
	faults := scopeFaults{}
	for _, r := range s.ScopeSelector.MatchExpressions {
		scopes = append(scopes, r.ScopeName)
		if !slices.Contains(quotaScopes, r.ScopeName) {
			e.Invalid(path.Child("scopeName"), r.ScopeName, "unsupported scope")
		}
		e.Add(faults.of(r.ScopeName, s, path, s.ScopeSelector)...)
		switch r.ScopeName {
		case corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
			corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
			if r.Operator != corev1.ScopeSelectorOpExists {
				e.Invalid(path.Child("operator"), r.Operator, "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity")
			}
		}
		switch r.Operator {
		case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
			if len(r.Values) == 0 {
				e.Required(path.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector")
			}
		case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
			if len(r.Values) != 0 {
				e.Invalid(path.Child("values"), r.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector")
			}
		default:
			e.Invalid(path.Child("operator"), r.Operator, "not a valid selector operator")
		}
	}
	if conflicting(scopes) {
		e.Invalid(path, s.Scopes, "conflicting scopes")
	}
	return e
}

func validateQuotaUpdate(q, old *corev1.ResourceQuota) (e check.Errors) {
	e.Add(validateQuotaSpec(&q.Spec)...)
	if !sets.New(q.Spec.Scopes...).Equal(sets.New(old.Spec.Scopes...)) {
		e.Invalid(field.NewPath("spec", "scopes"), q.Spec.Scopes, check.Immutable)
	}
	return e
}

func quotaCells(q *corev1.ResourceQuota, p api.PrintOptions) []any {
	var requests, limits []string
	for _, name := range sortedNames(q.Status.Hard) {
		used, hard := q.Status.Used[name], q.Status.Hard[name]
		text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(string(name), "limits.") {
			limits = append(limits, text)
		} else {
			requests = append(requests, text)
		}
	}
	return []any{q.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), api.Age(q.CreationTimestamp, p)}
}
