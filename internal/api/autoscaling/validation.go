package autoscaling

import (
	"errors"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

const (
	maxPeriodSeconds        = 1800
	maxStabilizationSeconds = 3600
)

// referenceOptions say what a reference's apiVersion may be.
type referenceOptions struct{ any, core bool }

type autoscalerOptions struct {
	leastReplicas int32
	target        referenceOptions
	object        referenceOptions
}

func validateNewAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) check.Errors {
	core := h.Spec.ScaleTargetRef.Kind == "ReplicationController"
	return validateAutoscaler(&h.Spec, autoscalerOptions{leastReplicas: 1, target: referenceOptions{core: core}, object: referenceOptions{core: true}})
}

// validateAutoscalerUpdate tolerates what the object has already.
func validateAutoscalerUpdate(h, old *autoscalingv2.HorizontalPodAutoscaler) check.Errors {
	opts := autoscalerOptions{leastReplicas: 1, object: referenceOptions{core: true}}
	if old.Spec.MinReplicas != nil && *old.Spec.MinReplicas == 0 {
		opts.leastReplicas = 0
	}
	if n, o := h.Spec.ScaleTargetRef, old.Spec.ScaleTargetRef; n.APIVersion == o.APIVersion && n.Kind == o.Kind {
		opts.target.any = true
	} else {
		opts.target.core = n.Kind == "ReplicationController"
	}
	opts.object.any = slices.ContainsFunc(old.Spec.Metrics, func(m autoscalingv2.MetricSpec) bool {
		return m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil && badVersion(m.Object.DescribedObject, opts.object) != nil
	})
	return validateAutoscaler(&h.Spec, opts)
}

func validateAutoscaler(s *autoscalingv2.HorizontalPodAutoscalerSpec, opts autoscalerOptions) (e check.Errors) {
	spec := field.NewPath("spec")
	if s.MinReplicas != nil && *s.MinReplicas < opts.leastReplicas {
		e.Invalidf(spec.Child("minReplicas"), *s.MinReplicas, "must be greater than or equal to %d", opts.leastReplicas)
	}
	if s.MaxReplicas == 0 {
		e.Required(spec.Child("maxReplicas"), "must be set and greater than 0")
	} else if s.MaxReplicas < 0 {
		e.Invalid(spec.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to 1")
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		e.Invalid(spec.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`")
	}
	e.Add(validateTarget(s.ScaleTargetRef, spec.Child("scaleTargetRef"), opts.target)...)
	outside := false
	for i := range s.Metrics {
		m := &s.Metrics[i]
		e.Add(validateMetric(m, spec.Child("metrics").Index(i), opts.object)...)
		outside = outside || m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
	}
	if ptr.Deref(s.MinReplicas, 1) == 0 && !outside {
		e.Forbidden(spec.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas")
	}
	if s.Behavior != nil {
		e.Add(validateRules(s.Behavior.ScaleUp, spec.Child("behavior", "scaleUp"))...)
		e.Add(validateRules(s.Behavior.ScaleDown, spec.Child("behavior", "scaleDown"))...)
	}
	return e
}

func validateAutoscalerStatus(h *autoscalingv2.HorizontalPodAutoscaler) (e check.Errors) {
	e.NonNegative(field.NewPath("status", "currentReplicas"), int64(h.Status.CurrentReplicas))
	e.NonNegative(field.NewPath("status", "desiredReplicas"), int64(h.Status.DesiredReplicas))
	return e
}

func badVersion(ref autoscalingv2.CrossVersionObjectReference, opts referenceOptions) error {
	if opts.any {
		return nil
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err == nil && gv.Group == "" && !opts.core {
		err = errors.New("apiVersion must specify API group")
	}
	return err
}

// segment requires a name that can be a part of a URL's path.
func segment(e *check.Errors, value string, at *field.Path, absent string) {
	if value == "" {
		e.Required(at, absent)
	} else {
		e.Messages(at, value, pathvalidation.IsValidPathSegmentName(value))
	}
}

func validateTarget(ref autoscalingv2.CrossVersionObjectReference, at *field.Path, opts referenceOptions) (e check.Errors) {
	segment(&e, ref.Kind, at.Child("kind"), "")
	segment(&e, ref.Name, at.Child("name"), "")
	if err := badVersion(ref, opts); err != nil {
		e.Invalid(at.Child("apiVersion"), ref.APIVersion, err.Error())
	}
	return e
}

func validateRules(r *autoscalingv2.HPAScalingRules, at *field.Path) (e check.Errors) {
	if r == nil {
		return nil
	}
	if seconds := r.StabilizationWindowSeconds; seconds != nil && *seconds < 0 {
		e.Invalid(at.Child("stabilizationWindowSeconds"), seconds, "must be greater than or equal to zero")
	} else if seconds != nil && *seconds > maxStabilizationSeconds {
		e.Invalidf(at.Child("stabilizationWindowSeconds"), seconds, "must be less than or equal to %v", maxStabilizationSeconds)
	}
	if r.SelectPolicy != nil {
		check.OneOf(&e, at.Child("selectPolicy"), *r.SelectPolicy, autoscalingv2.DisabledPolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect)
	}
	if len(r.Policies) == 0 {
		e.Required(at.Child("policies"), "must specify at least one Policy")
	}
	for i, p := range r.Policies {
		at := at.Child("policies").Index(i)
		check.OneOf(&e, at.Child("type"), p.Type, autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy)
		if p.Value <= 0 {
			e.Invalid(at.Child("value"), p.Value, check.NotPositive)
		}
		if p.PeriodSeconds <= 0 {
			e.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, check.NotPositive)
		} else if p.PeriodSeconds > maxPeriodSeconds {
			e.Invalidf(at.Child("periodSeconds"), p.PeriodSeconds, "must be less than or equal to %v", maxPeriodSeconds)
		}
	}
	if r.Tolerance != nil {
		e.Add(core.ValidateNonNegativeQuantity(*r.Tolerance, at.Child("tolerance"))...)
	}
	return e
}

// Alphabetical.
var metricTypes = []autoscalingv2.MetricSourceType{
	autoscalingv2.ContainerResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType, autoscalingv2.ObjectMetricSourceType,
	autoscalingv2.PodsMetricSourceType, autoscalingv2.ResourceMetricSourceType,
}

// validateMetric requires that the source is there that the type names, and no other; the first is checked.
func validateMetric(m *autoscalingv2.MetricSpec, at *field.Path, opts referenceOptions) (e check.Errors) {
	if m.Type == "" {
		e.Required(at.Child("type"), "must specify a metric source type")
	}
	known := slices.Contains(metricTypes, m.Type)
	if !known {
		e.Add(field.NotSupported(at.Child("type"), m.Type, metricTypes))
	}
	sources := []struct {
		name  string
		typ   autoscalingv2.MetricSourceType
		there bool
		check func(at *field.Path) check.Errors
	}{
		{"object", autoscalingv2.ObjectMetricSourceType, m.Object != nil, func(at *field.Path) check.Errors { return validateObject(m.Object, at, opts) }},
		{"external", autoscalingv2.ExternalMetricSourceType, m.External != nil, func(at *field.Path) check.Errors { return validateExternal(m.External, at) }},
		{"pods", autoscalingv2.PodsMetricSourceType, m.Pods != nil, func(at *field.Path) check.Errors { return validatePods(m.Pods, at) }},
		{"resource", autoscalingv2.ResourceMetricSourceType, m.Resource != nil, func(at *field.Path) check.Errors { return validateResource(m.Resource, at) }},
		{"containerResource", autoscalingv2.ContainerResourceMetricSourceType, m.ContainerResource != nil, func(at *field.Path) check.Errors { return validateContainer(m.ContainerResource, at) }},
	}
	there := 0
	for _, s := range sources {
		if !s.there {
			continue
		}
		if there++; there == 1 {
			e.Add(s.check(at.Child(s.name))...)
		}
	}
	if !known { // a second time, as upstream
		e.Add(field.NotSupported(at.Child("type"), m.Type, metricTypes))
	}
	for _, s := range sources {
		switch {
		case s.typ == m.Type && !s.there:
			e.Required(at.Child(s.name), "must populate information for the given metric source")
		case s.typ != m.Type && s.there && there > 1:
			e.Forbidden(at.Child(s.name), "must populate the given metric source only")
		}
	}
	return e
}

func validateObject(s *autoscalingv2.ObjectMetricSource, at *field.Path, opts referenceOptions) (e check.Errors) {
	e.Add(validateTarget(s.DescribedObject, at.Child("describedObject"), opts)...)
	segment(&e, s.Metric.Name, at.Child("metric", "name"), "must specify a metric name")
	e.Add(validateAmounts(s.Target, at.Child("target"))...)
	if s.Target.Value == nil && s.Target.AverageValue == nil {
		e.Required(at.Child("target", "averageValue"), "must set either a target value or averageValue")
	}
	return e
}

func validateExternal(s *autoscalingv2.ExternalMetricSource, at *field.Path) (e check.Errors) {
	segment(&e, s.Metric.Name, at.Child("metric", "name"), "must specify a metric name")
	e.Add(validateAmounts(s.Target, at.Child("target"))...)
	if s.Target.Value == nil && s.Target.AverageValue == nil {
		e.Required(at.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target")
	}
	if s.Target.Value != nil && s.Target.AverageValue != nil {
		e.Forbidden(at.Child("target", "value"), "may not set both a target value for metric and a per-pod target")
	}
	return e
}

func validatePods(s *autoscalingv2.PodsMetricSource, at *field.Path) (e check.Errors) {
	segment(&e, s.Metric.Name, at.Child("metric", "name"), "must specify a metric name")
	e.Add(validateAmounts(s.Target, at.Child("target"))...)
	if s.Target.AverageValue == nil {
		e.Required(at.Child("target", "averageValue"), "must specify a positive target averageValue")
	}
	return e
}

func validateResource(s *autoscalingv2.ResourceMetricSource, at *field.Path) (e check.Errors) {
	if s.Name == "" {
		e.Required(at.Child("name"), "must specify a resource name")
	}
	e.Add(validateUtilization(s.Target, at.Child("target"))...)
	return e
}

func validateContainer(s *autoscalingv2.ContainerResourceMetricSource, at *field.Path) (e check.Errors) {
	if s.Name == "" {
		e.Required(at.Child("name"), "must specify a resource name")
	} else {
		e.Add(core.ValidateContainerResourceName(s.Name, at.Child("name"))...)
	}
	if s.Container == "" {
		e.Required(at.Child("container"), "must specify a container")
	} else {
		e.Label(at.Child("container"), s.Container)
	}
	e.Add(validateUtilization(s.Target, at.Child("target"))...)
	return e
}

func validateUtilization(t autoscalingv2.MetricTarget, at *field.Path) check.Errors {
	e := validateAmounts(t, at)
	if t.AverageUtilization == nil && t.AverageValue == nil {
		e.Required(at.Child("averageUtilization"), "must set either a target raw value or a target utilization")
	}
	if t.AverageUtilization != nil && t.AverageValue != nil {
		e.Forbidden(at.Child("averageValue"), "may not set both a target raw value and a target utilization")
	}
	return e
}

func validateAmounts(t autoscalingv2.MetricTarget, at *field.Path) (e check.Errors) {
	if t.Type == "" {
		e.Required(at.Child("type"), "must specify a metric target type")
	}
	if types := []autoscalingv2.MetricTargetType{autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType}; !slices.Contains(types, t.Type) {
		e.Invalid(at.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue")
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		e.Invalid(at.Child("value"), t.Value, "must be positive")
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		e.Invalid(at.Child("averageValue"), t.AverageValue, "must be positive")
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		e.Invalid(at.Child("averageUtilization"), t.AverageUtilization, "must be greater than 0")
	}
	return e
}
