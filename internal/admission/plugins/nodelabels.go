package plugins

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// kubeletLabels are the labels of Kubernetes that a kubelet may set on its Node; so may it those of kubeletLabelDomains.
var kubeletLabels = []string{
	corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
	corev1.LabelInstanceType, corev1.LabelInstanceTypeStable, corev1.LabelOSStable, corev1.LabelArchStable, "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
}

var kubeletLabelDomains = []string{corev1.LabelNamespaceSuffixKubelet, corev1.LabelNamespaceSuffixNode}

// reservedLabels returns the labels, sorted, that differ and that a kubelet may not change.
func reservedLabels(now, old map[string]string) []string {
	var out []string
	check := func(a, b map[string]string) {
		for k, v := range a {
			if w, ok := b[k]; (!ok || v != w) && isReserved(k) && !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	check(now, old)
	check(old, now)
	slices.Sort(out)
	return out
}

func isReserved(label string) bool {
	domain, _, ok := strings.Cut(label, "/")
	if !ok {
		return false
	}
	if within(domain, corev1.LabelNamespaceNodeRestriction) {
		return true
	}
	if !within(domain, "kubernetes.io") && !within(domain, "k8s.io") {
		return false
	}
	return !slices.Contains(kubeletLabels, label) &&
		!slices.ContainsFunc(kubeletLabelDomains, func(d string) bool { return within(domain, d) })
}

// within tells whether a domain is another or lies below it.
func within(domain, parent string) bool {
	return domain == parent || strings.HasSuffix(domain, "."+parent)
}
