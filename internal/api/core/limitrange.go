package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// LimitRanges is the row of core/v1 LimitRange.
var LimitRanges = api.Register(&api.Resource{
	Name:         "limitranges",
	Singular:     "limitrange",
	Kind:         "LimitRange",
	ShortNames:   []string{"limits"},
	Namespaced:   true,
	MetaOnUpdate: "N",
	Versions:     []api.Version{api.Serve[corev1.LimitRange, corev1.LimitRangeList]("v1")},
	Prefix:       "limitranges",

	Default: api.On(defaultLimitRange),
	PrepareCreate: api.On(func(l *corev1.LimitRange) {
		if l.Name == "" { // alone among the kinds
			l.Name = string(uuid.NewUUID())
		}
	}),
	Validate:                 api.Check(validateLimitRange),
	ValidateUpdate:           api.CheckSame(validateLimitRange),
	AllowCreateOnUpdate:      true,
	AllowUnconditionalUpdate: true,

	Columns: []metav1.TableColumnDefinition{api.NameColumn, api.CreatedColumn},
	Cells: api.Print(func(l *corev1.LimitRange, _ api.PrintOptions) []any {
		return []any{l.Name, api.Created(l.CreationTimestamp)}
	}),
})

// defaultLimitRange derives for containers the default limit from the maximum, and the default request from limit and minimum.
func defaultLimitRange(l *corev1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		if item.Type == corev1.LimitTypeContainer {
			item.Default = withMissing(item.Default, item.Max)
			item.DefaultRequest = withMissing(withMissing(item.DefaultRequest, item.Default), item.Min)
		}
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			roundUp(list)
		}
	}
}

func withMissing(list, from corev1.ResourceList) corev1.ResourceList {
	if list == nil {
		list = corev1.ResourceList{}
	}
	for name, quantity := range from {
		if _, there := list[name]; !there {
			list[name] = quantity.DeepCopy()
		}
	}
	return list
}

var limitTypes = []corev1.LimitType{corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim}

func validateLimitRange(l *corev1.LimitRange) (e check.Errors) {
	seen := map[corev1.LimitType]bool{}
	for i := range l.Spec.Limits {
		item, path := &l.Spec.Limits[i], field.NewPath("spec", "limits").Index(i)
		if msgs := validation.IsQualifiedName(string(item.Type)); len(msgs) > 0 {
			e.Messages(path.Child("type"), item.Type, msgs)
		} else if !strings.Contains(string(item.Type), "/") && !slices.Contains(limitTypes, item.Type) {
			e.Invalid(path.Child("type"), item.Type, "must be a standard limit type or fully qualified")
		}
		if seen[item.Type] {
			e.Duplicate(path.Child("type"), item.Type)
		}
		seen[item.Type] = true
		e.Add(validateLimitItem(item, path)...)
	}
	return e
}

func validateLimitItem(item *corev1.LimitRangeItem, path *field.Path) (e check.Errors) {
	all := map[corev1.ResourceName]bool{}
	rule := validateResourceName
	if item.Type == corev1.LimitTypePod || item.Type == corev1.LimitTypeContainer {
		rule = validateContainerResourceName
	}
	names := func(list corev1.ResourceList, at string) {
		for _, name := range sortedNames(list) {
			e.Add(rule(name, path.Child(at).Key(string(name)))...)
			all[name] = true
		}
	}
	names(item.Max, "max")
	names(item.Min, "min")
	defaults, requests := item.Default, item.DefaultRequest
	if item.Type == corev1.LimitTypePod {
		if len(defaults) > 0 {
			e.Forbidden(path.Child("default"), "may not be specified when `type` is 'Pod'")
		}
		if len(requests) > 0 {
			e.Forbidden(path.Child("defaultRequest"), "may not be specified when `type` is 'Pod'")
		}
		defaults, requests = nil, nil
	} else {
		names(defaults, "default")
		names(requests, "defaultRequest")
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, least := item.Min[corev1.ResourceStorage]
		_, most := item.Max[corev1.ResourceStorage]
		if !least && !most {
			e.Required(path.Child("limits"), "either minimum or maximum storage value is required, but neither was provided")
		}
	}
	names(item.MaxLimitRequestRatio, "maxLimitRequestRatio")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		e.Add(validateLimits(item, defaults, requests, name, path)...)
	}
	return e
}

// validateLimits compares the limits of one resource with one another.
func validateLimits(item *corev1.LimitRangeItem, defaults, requests corev1.ResourceList, name corev1.ResourceName, path *field.Path) (e check.Errors) {
	low, hasLow := item.Min[name]
	high, hasHigh := item.Max[name]
	limit, hasLimit := defaults[name]
	request, hasRequest := requests[name]
	ratio, hasRatio := item.MaxLimitRequestRatio[name]
	compare := func(both bool, less, more resource.Quantity, at string, blamed resource.Quantity, format string) {
		if both && less.Cmp(more) > 0 {
			e.Invalid(path.Child(at).Key(string(name)), blamed, fmt.Sprintf(format, less.String(), more.String()))
		}
	}
	compare(hasLow && hasHigh, low, high, "min", low, "min value %s is greater than max value %s")
	compare(hasRequest && hasLow, low, request, "defaultRequest", request, "min value %s is greater than default request value %s")
	compare(hasRequest && hasHigh, request, high, "defaultRequest", request, "default request value %s is greater than max value %s")
	compare(hasRequest && hasLimit, request, limit, "defaultRequest", request, "default request value %s is greater than default limit value %s")
	compare(hasLimit && hasLow, low, limit, "default", low, "min value %s is greater than default value %s")
	compare(hasLimit && hasHigh, limit, high, "default", high, "default value %s is greater than max value %s")
	at := path.Child("maxLimitRequestRatio").Key(string(name))
	if hasRatio && ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
		e.Invalidf(at, ratio, "ratio %s is less than 1", ratio.String())
	}
	if hasRatio && hasLow && hasHigh {
		value, bound := float64(ratio.Value()), float64(high.Value())/float64(low.Value())
		if ratio.Value() < resource.MaxMilliValue && low.Value() < resource.MaxMilliValue && high.Value() < resource.MaxMilliValue {
			value, bound = float64(ratio.MilliValue())/1000, float64(high.MilliValue())/float64(low.MilliValue())
		}
		if value > bound {
			e.Invalidf(at, ratio, "ratio %s is greater than max/min = %f", ratio.String(), bound)
		}
	}
	if !isOvercommitAllowed(name) && hasLimit && hasRequest && limit.Cmp(request) != 0 {
		e.Invalidf(path.Child("defaultRequest").Key(string(name)), request, "default value %s must equal to defaultRequest value %s in %s", limit.String(), request.String(), name)
	}
	return e
}
