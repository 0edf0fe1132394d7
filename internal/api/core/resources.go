package core

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	resourcehelper "k8s.io/component-helpers/resource"

	"clipper.dev/clipper/internal/api/check"
)

// sortedNames gives errors about a list of resources a steady order.
func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	if len(list) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(list))
}

// validateQuantity requires an amount that the resource can have.
func validateQuantity(name corev1.ResourceName, q resource.Quantity, path *field.Path) (e check.Errors) {
	if q.Sign() < 0 {
		e.Invalid(path, q.String(), check.Negative)
	}
	if isInteger(name) && q.MilliValue()%1000 != 0 {
		e.Invalid(path, q, "must be an integer")
	}
	return e
}

// ValidatePositiveQuantity requires more than nothing.
func ValidatePositiveQuantity(q resource.Quantity, path *field.Path) (e check.Errors) {
	if q.Sign() <= 0 {
		e.Invalid(path, q.String(), check.NotPositive)
	}
	return e
}

// ValidateNonNegativeQuantity requires nothing or more.
func ValidateNonNegativeQuantity(q resource.Quantity, path *field.Path) (e check.Errors) {
	if q.Sign() < 0 {
		e.Invalid(path, q.String(), apivalidation.IsNegativeErrorMsg)
	}
	return e
}

// ValidateLimits checks amounts of resources that a container could be limited to.
func ValidateLimits(limits corev1.ResourceList, path *field.Path) check.Errors {
	return requirementsCheck{validateContainerResourceName, nil, &podOptions{}}.validate(&corev1.ResourceRequirements{Limits: limits}, path)
}

// validateBasicQuantity requires an amount that is not negative, in the words of volumes.
func validateBasicQuantity(q resource.Quantity, path *field.Path) (e check.Errors) {
	if q.Value() < 0 {
		e.Invalid(path, q.Value(), "must be a valid resource quantity")
	}
	return e
}

func validateResourceName(name corev1.ResourceName, path *field.Path) (e check.Errors) {
	if msgs := validation.IsQualifiedName(string(name)); len(msgs) > 0 {
		e.Messages(path, name, msgs)
		return e
	}
	if !strings.Contains(string(name), "/") && !isStandardResource(name) {
		e.Invalid(path, name, "must be a standard resource type or fully qualified")
	}
	return e
}

func validateContainerResourceName(name corev1.ResourceName, path *field.Path) check.Errors {
	e := validateResourceName(name, path)
	switch {
	case !strings.Contains(string(name), "/"):
		if !isContainerResource(name) {
			e.Invalid(path, name, "must be a standard resource for containers")
		}
	case !isNative(name) && !isExtended(name):
		e.Invalid(path, name, "doesn't follow extended resource name standard")
	}
	return e
}

func validatePodResourceName(name corev1.ResourceName, path *field.Path) check.Errors {
	e := validateResourceName(name, path)
	if len(e) == 0 && !resourcehelper.IsSupportedPodLevelResource(name) {
		e.Add(field.NotSupported(path, name, sets.List(resourcehelper.SupportedPodLevelResources())))
	}
	return e
}

// A requirementsCheck is the validation of the requests and limits of one container, or of a whole pod.
type requirementsCheck struct {
	name       func(corev1.ResourceName, *field.Path) check.Errors
	claimNames sets.Set[string]
	opts       *podOptions
}

func (c requirementsCheck) validate(r *corev1.ResourceRequirements, path *field.Path) (e check.Errors) {
	limits, requests := path.Child("limits"), path.Child("requests")
	compute, huge := false, false
	one := func(name corev1.ResourceName, q resource.Quantity, at *field.Path) {
		compute = compute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		huge = huge || isHugePage(name)
		e.Add(c.name(name, at)...)
		e.Add(validateQuantity(name, q, at)...)
	}
	pages := func(name corev1.ResourceName, q resource.Quantity, at *field.Path) {
		if isHugePage(name) && !c.opts.indivisibleHugePages && !dividesIntoPages(name, q) {
			e.Invalidf(at, q.String(), "%s is not positive integer multiple of %s", q.String(), name)
		}
	}
	for _, name := range sortedNames(r.Limits) {
		q, at := r.Limits[name], limits.Key(string(name))
		one(name, q, at)
		pages(name, q, at)
	}
	for _, name := range sortedNames(r.Requests) {
		q, at := r.Requests[name], requests.Key(string(name))
		one(name, q, at)
		limit, limited := r.Limits[name]
		switch {
		case !limited && !isOvercommitAllowed(name):
			e.Required(limits, "Limit must be set for non overcommitable resources")
		case limited && !isOvercommitAllowed(name) && q.Cmp(limit) != 0:
			e.Invalidf(requests, q.String(), "must be equal to %s limit of %s", name, limit.String())
		case limited && q.Cmp(limit) > 0:
			e.Invalidf(requests, q.String(), "must be less than or equal to %s limit of %s", name, limit.String())
		}
		pages(name, q, at)
	}
	if huge && !compute {
		e.Forbidden(path, "HugePages require cpu or memory")
	}
	e.Add(validateClaimReferences(r.Claims, c.claimNames, path.Child("claims"))...)
	return e
}

// validateClaimReferences checks a container's references to the pod's resource claims.
func validateClaimReferences(claims []corev1.ResourceClaim, podClaims sets.Set[string], path *field.Path) (e check.Errors) {
	seen, requests := sets.New[string](), map[string]int{}
	for i, claim := range claims {
		at := path.Index(i)
		if claim.Name == "" {
			e.Required(at, "")
			continue
		}
		e.Add(validateClaimUnique(claim, seen, requests, at)...)
		if !podClaims.Has(claim.Name) {
			missing := field.NotFound(at, claim.Name)
			missing.Detail = "must be one of the names in pod.spec.resourceClaims"
			if len(podClaims) == 0 {
				missing.Detail += " which is empty"
			} else {
				missing.Detail += ": " + strings.Join(sets.List(podClaims), ", ")
			}
			e.Add(missing)
		}
	}
	return e
}

// validateClaimUnique refuses a claim of which the whole, or the same request, is used already.
// requests counts those of each claim that are used by themselves.
func validateClaimUnique(claim corev1.ResourceClaim, seen sets.Set[string], requests map[string]int, path *field.Path) (e check.Errors) {
	if seen.Has(claim.Name) {
		e.Duplicate(path, claim.Name)
		return e
	}
	key := claim.Name
	if claim.Request != "" {
		e.Label(path.Child("request"), claim.Request)
		key += "/" + claim.Request
	}
	switch {
	case seen.Has(key):
		e.Duplicate(path, key)
	case claim.Request == "":
		for range requests[claim.Name] {
			e.Duplicate(path, claim.Name)
		}
	default:
		requests[claim.Name]++
	}
	seen.Insert(key)
	return e
}

// validatePodResources checks the resources that a pod has as a whole.
func validatePodResources(spec *corev1.PodSpec, claimNames sets.Set[string], path *field.Path, opts *podOptions) (e check.Errors) {
	if spec.Resources == nil {
		return nil
	}
	at := path.Child("resources")
	if spec.OS != nil && spec.OS.Name == corev1.Windows {
		e.Forbidden(at, "may not be set for a windows pod")
		return e
	}
	if spec.Resources.Claims != nil {
		e.Forbidden(at.Child("claims"), "claims may not be set for Resources at pod-level")
	}
	e.Add(requirementsCheck{validatePodResourceName, claimNames, opts}.validate(spec.Resources, at)...)
	e.Add(validatePodSums(spec, at)...)
	return e
}

// validatePodSums compares a pod's resources with those of its containers together.
func validatePodSums(spec *corev1.PodSpec, path *field.Path) (e check.Errors) {
	pod, none := &corev1.Pod{Spec: *spec}, resourcehelper.PodResourcesOptions{}
	sums := resourcehelper.AggregateContainerRequests(pod, none)
	for _, name := range sortedNames(sums) {
		sum := sums[name]
		if own, there := spec.Resources.Requests[name]; there && sum.Cmp(own) > 0 {
			e.Invalidf(path.Child("requests").Key(string(name)), own.String(), "must be greater than or equal to aggregate container requests of %s", sum.String())
		}
	}
	sums = resourcehelper.AggregateContainerLimits(pod, none)
	for _, name := range sortedNames(sums) {
		sum := sums[name]
		if own, there := spec.Resources.Limits[name]; there && isHugePage(name) && sum.Cmp(own) > 0 {
			e.Invalidf(path.Child("limits").Key(string(name)), own.String(), "must be greater than or equal to aggregate container limits of %s", sum.String())
		}
	}
	for i, c := range spec.Containers {
		for _, name := range sortedNames(c.Resources.Limits) {
			limit := c.Resources.Limits[name]
			if own, there := spec.Resources.Limits[name]; there && limit.Cmp(own) > 0 {
				e.Invalidf(path.Child("containers").Index(i).Key(string(name)).Child("limits"), limit.String(), "must be less than or equal to pod limits of %s", own.String())
			}
		}
	}
	return e
}

// ValidateContainerResourceName requires the name of a resource that a container can use.
func ValidateContainerResourceName(name corev1.ResourceName, path *field.Path) check.Errors {
	return validateContainerResourceName(name, path)
}
