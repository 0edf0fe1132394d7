package core

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	schedulingcorev1 "k8s.io/component-helpers/scheduling/corev1"
	netutils "k8s.io/utils/net"

	"clipper.dev/clipper/internal/api/check"
)

func validateNode(n *corev1.Node) (e check.Errors) {
	meta := field.NewPath("metadata")
	e.Add(validateNodeAnnotations(n.Annotations, meta.Child("annotations"))...)
	e.Add(validateTaints(n.Spec.Taints, meta.Child("taints"))...)
	e.Add(validateNodeResources(n)...)
	if swap := n.Status.NodeInfo.Swap; swap != nil && swap.Capacity != nil {
		e.Positive(meta.Child("nodeSwapStatus", "capacity"), *swap.Capacity)
	}
	e.Add(validateDeclaredFeatures(n.Status.DeclaredFeatures, field.NewPath("status", "declaredFeatures"))...)
	path := field.NewPath("spec", "podCIDRs")
	for i, cidr := range n.Spec.PodCIDRs {
		e.CIDR(path.Index(i), cidr, nil)
	}
	if len(n.Spec.PodCIDRs) > 1 {
		dual, err := netutils.IsDualStackCIDRStrings(n.Spec.PodCIDRs)
		if err != nil {
			e.Internal(path, fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%w", err))
		}
		if !dual || len(n.Spec.PodCIDRs) > 2 {
			e.Invalid(path, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family")
		}
	}
	return e
}

func validateNodeAnnotations(annotations map[string]string, path *field.Path) (e check.Errors) {
	if text := annotations[taintsAnnotation]; text != "" {
		var taints []corev1.Taint
		if err := json.Unmarshal([]byte(text), &taints); err != nil {
			e.Invalid(path, taintsAnnotation, err.Error())
		} else {
			e.Add(validateTaints(taints, path.Child(taintsAnnotation))...)
		}
	}
	if annotations[corev1.PreferAvoidPodsAnnotationKey] != "" {
		avoids, err := schedulingcorev1.GetAvoidPodsFromNodeAnnotations(annotations)
		if err != nil {
			e.Invalid(path.Child("AvoidPods"), corev1.PreferAvoidPodsAnnotationKey, err.Error())
			return e
		}
		for i, a := range avoids.PreferAvoidPods {
			at := path.Child(corev1.PreferAvoidPodsAnnotationKey).Index(i).Child("PodSignature")
			switch owner := a.PodSignature.PodController; {
			case owner == nil:
				e.Required(at, "")
			case owner.Controller == nil || !*owner.Controller:
				e.Invalid(at.Child("PodController", "Controller"), false, "must point to a controller")
			}
		}
	}
	return e
}

const taintsAnnotation = "scheduler.alpha.kubernetes.io/taints"

func validateTaints(taints []corev1.Taint, path *field.Path) (e check.Errors) {
	type identity struct {
		key    string
		effect corev1.TaintEffect
	}
	seen := map[identity]bool{}
	for i, t := range taints {
		at := path.Index(i)
		e.Add(metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			e.Invalid(at.Child("value"), t.Value, strings.Join(msgs, ";"))
		}
		check.Enum(&e, at.Child("effect"), t.Effect, taintEffects...)
		id := identity{t.Key, t.Effect}
		if seen[id] {
			twice := field.Duplicate(at, t)
			twice.Detail = "taints must be unique by key and effect pair"
			e.Add(twice)
		}
		seen[id] = true
	}
	return e
}

func validateNodeResources(n *corev1.Node) (e check.Errors) {
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
	}{{"capacity", n.Status.Capacity}, {"allocatable", n.Status.Allocatable}} {
		for _, name := range sortedNames(list.of) {
			e.Add(validateQuantity(name, list.of[name], field.NewPath("status", list.name, string(name)))...)
		}
	}
	return e
}

var declaredFeature = regexp.MustCompile(`^[A-Z][a-zA-Z0-9]*(\/[a-zA-Z][a-zA-Z0-9]*)*$`)

func validateDeclaredFeatures(features []string, path *field.Path) (e check.Errors) {
	for i, f := range features {
		switch {
		case len(f) > validation.DNS1123SubdomainMaxLength:
			e.Invalidf(path.Index(i), f, "invalid feature name %q: must be no more than %d characters", f, validation.DNS1123SubdomainMaxLength)
		case !declaredFeature.MatchString(f):
			e.Invalidf(path.Index(i), f, "invalid feature name %q: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes", f)
		}
		if i+1 == len(features) {
			continue
		}
		switch next := features[i+1]; {
		case f == next:
			e.Duplicate(path.Index(i+1), next)
		case f > next:
			e.Invalid(path.Index(i+1), next, "list must be sorted alphabetically")
		}
	}
	return e
}

func validateNodeMainUpdate(n, old *corev1.Node) (e check.Errors) {
	e.Add(validateNode(n)...)
	e.Add(validateNodeUpdate(n, old)...)
	return e
}

// validateNodeUpdate checks what an update of either part of a node may change.
func validateNodeUpdate(n, old *corev1.Node) (e check.Errors) {
	meta, spec, status := field.NewPath("metadata"), field.NewPath("spec"), field.NewPath("status")
	e.Add(validateNodeAnnotations(n.Annotations, meta.Child("annotations"))...)
	e.Add(validateNodeResources(n)...)
	e.Add(validateDeclaredFeatures(n.Status.DeclaredFeatures, status.Child("declaredFeatures"))...)
	addresses := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if addresses[a] {
			e.Duplicate(status.Child("addresses").Index(i), a)
		}
		addresses[a] = true
	}
	const frozen = `node updates may not change podCIDR except from "" to valid`
	if len(old.Spec.PodCIDRs) > 0 && len(old.Spec.PodCIDRs) != len(n.Spec.PodCIDRs) {
		e.Forbidden(spec.Child("podCIDRs"), frozen)
	} else {
		for i, cidr := range old.Spec.PodCIDRs {
			if cidr != n.Spec.PodCIDRs[i] {
				e.Forbidden(spec.Child("podCIDRs"), frozen)
			}
		}
	}
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != n.Spec.ProviderID {
		e.Forbidden(spec.Child("providerID"), `node updates may not change providerID except from "" to valid`)
	}
	e.Add(validateConfigSource(n.Spec.ConfigSource, spec.Child("configSource"), false)...)
	if c := n.Status.Config; c != nil {
		at := status.Child("config")
		e.Add(validateConfigSource(c.Assigned, at.Child("assigned"), true)...)
		e.Add(validateConfigSource(c.Active, at.Child("active"), true)...)
		e.Add(validateConfigSource(c.LastKnownGood, at.Child("lastKnownGood"), true)...)
	}
	e.Add(validateTaints(n.Spec.Taints, meta.Child("taints"))...)
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		e.Forbidden(spec.Child("externalID"), "may not be updated")
	}
	return e
}

// validateConfigSource checks where a kubelet of old took its configuration from; observed sources are pinned, wished ones are not.
func validateConfigSource(s *corev1.NodeConfigSource, path *field.Path, observed bool) (e check.Errors) {
	if s == nil {
		return nil
	}
	if s.ConfigMap == nil {
		e.Invalid(path, s, "exactly one reference subfield must be non-nil")
		return e
	}
	c, at := s.ConfigMap, path.Child("configMap")
	if observed {
		e.NonEmpty(at.Child("uid"), string(c.UID))
		e.NonEmpty(at.Child("resourceVersion"), c.ResourceVersion)
	} else {
		if c.UID != "" {
			e.Forbidden(at.Child("uid"), "uid must not be set in spec")
		}
		if c.ResourceVersion != "" {
			e.Forbidden(at.Child("resourceVersion"), "resourceVersion must not be set in spec")
		}
	}
	named := func(name, value string, rule func(string) []string) {
		if value == "" {
			e.Required(at.Child(name), "")
			return
		}
		e.Messages(at.Child(name), value, rule(value))
	}
	named("namespace", c.Namespace, func(v string) []string { return apivalidation.ValidateNamespaceName(v, false) })
	named("name", c.Name, func(v string) []string { return apivalidation.NameIsDNSSubdomain(v, false) })
	named("kubeletConfigKey", c.KubeletConfigKey, validation.IsConfigMapKey)
	return e
}

func nodeWarnings(n, _ *corev1.Node) (warnings []string) {
	if n.Spec.ConfigSource != nil {
		warnings = append(warnings, "spec.configSource: the feature is removed")
	}
	if n.Spec.DoNotUseExternalID != "" {
		warnings = append(warnings, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		warnings = append(warnings, validation.GetWarningsForCIDR(field.NewPath("spec", "podCIDRs").Index(i), cidr)...)
	}
	return warnings
}
