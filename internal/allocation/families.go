package allocation

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/core"
)

var (
	policyPath   = field.NewPath("spec", "ipFamilyPolicy")
	familiesPath = field.NewPath("spec", "ipFamilies")
	addressPath  = field.NewPath("spec", "clusterIPs")
)

// initFamilies settles the family policy and the families of a Service that is about to be stored, as upstream does.
func (a *Allocator) initFamilies(s, old *corev1.Service) error {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if s.Spec.IPFamilyPolicy == nil {
		policy := defaultPolicy(s, old)
		s.Spec.IPFamilyPolicy = &policy
	}
	if errs := core.ValidateClusterIPs(s, old); len(errs) > 0 {
		return invalid(s, errs...)
	}
	configured := a.addresses.families()
	var errs field.ErrorList
	if old != nil {
		errs = append(errs, shrink(s, old)...)
	}
	if *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack {
		errs = append(errs, singleStackErrors(s)...)
	}
	errs = append(errs, inferFamilies(s, configured)...)
	if len(errs) > 0 {
		return invalid(s, errs...)
	}
	if headless(s) && len(s.Spec.Selector) == 0 {
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = []corev1.IPFamily{configured[0]}
		}
		if len(s.Spec.IPFamilies) == 1 && *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
			s.Spec.IPFamilies = append(s.Spec.IPFamilies, other(s.Spec.IPFamilies[0]))
		}
		return nil
	}
	if errs := unconfigured(s, configured); len(errs) > 0 {
		return invalid(s, errs...)
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{configured[0]}
	}
	if *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack && len(s.Spec.IPFamilies) == 1 && len(configured) == 2 && !keepsPreferDualStack(s, old) {
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, other(s.Spec.IPFamilies[0]))
	}
	return nil
}

func defaultPolicy(s, old *corev1.Service) corev1.IPFamilyPolicy {
	switch {
	case old != nil && old.Spec.IPFamilyPolicy != nil:
		return *old.Spec.IPFamilyPolicy
	case headless(s) && len(s.Spec.Selector) == 0:
		return corev1.IPFamilyPolicyRequireDualStack
	}
	return corev1.IPFamilyPolicySingleStack
}

// shrink drops the second address and family of a Service that became single-stack, and refuses other ways of losing them.
func shrink(s, old *corev1.Service) (errs field.ErrorList) {
	if *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack {
		if len(s.Spec.ClusterIPs) > 1 && equalPrefix(old.Spec.ClusterIPs, s.Spec.ClusterIPs) {
			s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1]
		}
		if len(s.Spec.IPFamilies) > 1 && equalPrefix(old.Spec.IPFamilies, s.Spec.IPFamilies) {
			s.Spec.IPFamilies = s.Spec.IPFamilies[:1]
		}
		return nil
	}
	if len(old.Spec.ClusterIPs) == 2 && len(s.Spec.ClusterIPs) == 1 {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP"))
	}
	if len(old.Spec.IPFamilies) == 2 && len(s.Spec.IPFamilies) == 1 {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family"))
	}
	return errs
}

func equalPrefix[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func singleStackErrors(s *corev1.Service) (errs field.ErrorList) {
	if len(s.Spec.ClusterIPs) == 2 {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"))
	}
	if len(s.Spec.IPFamilies) == 2 {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"))
	}
	return errs
}

// inferFamilies adds the families of addresses that were asked for.
func inferFamilies(s *corev1.Service, configured []corev1.IPFamily) (errs field.ErrorList) {
	for i, text := range s.Spec.ClusterIPs {
		ip, err := netip.ParseAddr(text)
		if err != nil || i < len(s.Spec.IPFamilies) {
			continue
		}
		family := familyOf(ip)
		if !has(configured, family) {
			errs = append(errs, field.Invalid(addressPath.Index(i), s.Spec.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", family)))
			continue
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, family)
	}
	return errs
}

func unconfigured(s *corev1.Service, configured []corev1.IPFamily) (errs field.ErrorList) {
	if *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && len(configured) < 2 {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, family := range s.Spec.IPFamilies {
		if !has(configured, family) {
			errs = append(errs, field.Invalid(familiesPath.Index(i), family, "not configured on this cluster"))
		}
	}
	return errs
}

// keepsPreferDualStack tells of an update that leaves a PreferDualStack Service as it is: it is not upgraded because the cluster changed.
func keepsPreferDualStack(s, old *corev1.Service) bool {
	return old != nil && old.Spec.Type == s.Spec.Type && old.Spec.IPFamilyPolicy != nil &&
		*old.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack &&
		equalPrefix(old.Spec.ClusterIPs, s.Spec.ClusterIPs) && equalPrefix(old.Spec.IPFamilies, s.Spec.IPFamilies)
}

func familyOf(ip netip.Addr) corev1.IPFamily {
	if ip.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func other(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func has(all []corev1.IPFamily, f corev1.IPFamily) bool {
	for _, g := range all {
		if f == g {
			return true
		}
	}
	return false
}
