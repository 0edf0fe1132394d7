package core

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
)

// podOptions say where validation bends: an update may keep what the object has already though it would be refused today.
// The zero value is the strict validation of a template.
type podOptions struct {
	isPod                    bool // a pod, not a template for pods
	badDeletionCost          bool
	badSelectorValue         bool // in affinity terms
	badNodeAffinityValue     bool
	badSpreadSelector        bool
	oldSpreadKeys            bool // matchLabelKeys that break today's rule
	indivisibleHugePages     bool
	nonLocalTokenPath        bool
	hostSysctls              bool
	anySELinuxPolicy         bool
	comparingTolerations     bool
	hostNetworkWithoutUsers  bool
	volumeDevicesWithoutUser bool
	restartingInitResize     bool
}

// podOptionsFor returns the options for an object whose former state is given, or nil on creation.
func podOptionsFor(isPod bool, old *corev1.PodSpec, oldMeta *metav1.ObjectMeta) *podOptions {
	o := &podOptions{isPod: isPod}
	if oldMeta != nil {
		o.badDeletionCost = !validDeletionCost(oldMeta.Annotations)
	}
	if old == nil {
		return o
	}
	userNamespace := old.HostUsers != nil && !*old.HostUsers
	o.hostNetworkWithoutUsers = userNamespace && old.HostNetwork
	o.anySELinuxPolicy = old.SecurityContext != nil && old.SecurityContext.SELinuxChangePolicy != nil
	for _, t := range old.Tolerations {
		o.comparingTolerations = o.comparingTolerations || t.Operator == corev1.TolerationOpLt || t.Operator == corev1.TolerationOpGt
	}
	for place, c := range allContainers(old) {
		o.indivisibleHugePages = o.indivisibleHugePages || hasPartialPages(c.Resources.Limits) || hasPartialPages(c.Resources.Requests)
		o.volumeDevicesWithoutUser = o.volumeDevicesWithoutUser || userNamespace && len(c.VolumeDevices) > 0
		if place.list != "initContainers" || isSidecar(c) {
			continue
		}
		for _, p := range c.ResizePolicy {
			o.restartingInitResize = o.restartingInitResize || p.RestartPolicy == corev1.RestartContainer
		}
	}
	o.indivisibleHugePages = o.indivisibleHugePages || hasPartialPages(old.Overhead)
	o.fromPlacement(old)
	o.fromVolumes(old)
	if old.SecurityContext != nil {
		for _, s := range old.SecurityContext.Sysctls {
			o.hostSysctls = o.hostSysctls || hostSysctl(s.Name, old) != ""
		}
	}
	return o
}

// fromPlacement looks at affinity and spreading.
func (o *podOptions) fromPlacement(old *corev1.PodSpec) {
	for _, c := range old.TopologySpreadConstraints {
		o.badSpreadSelector = o.badSpreadSelector || !validSelector(c.LabelSelector)
		o.oldSpreadKeys = o.oldSpreadKeys || len(validateMatchLabelKeys(c.MatchLabelKeys, nil, c.LabelSelector, nil)) > 0
	}
	a := old.Affinity
	if a == nil {
		return
	}
	if a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, r := range term.MatchExpressions {
				for _, v := range r.Values {
					o.badNodeAffinityValue = o.badNodeAffinityValue || len(validation.IsValidLabelValue(v)) > 0
				}
			}
		}
	}
	look := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for _, t := range required {
			o.badSelectorValue = o.badSelectorValue || !validSelector(t.LabelSelector) || !validSelector(t.NamespaceSelector)
		}
		for _, t := range preferred {
			o.badSelectorValue = o.badSelectorValue || !validSelector(t.PodAffinityTerm.LabelSelector) || !validSelector(t.PodAffinityTerm.NamespaceSelector)
		}
	}
	if p := a.PodAffinity; p != nil {
		look(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		look(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func (o *podOptions) fromVolumes(old *corev1.PodSpec) {
	for _, v := range old.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil && len(validateNonReserved(s.ServiceAccountToken.Path, nil)) > 0 {
				o.nonLocalTokenPath = true
			}
		}
	}
}

func hasPartialPages(list corev1.ResourceList) bool {
	for name, q := range list {
		if isHugePage(name) && !dividesIntoPages(name, q) {
			return true
		}
	}
	return false
}

func validSelector(s *metav1.LabelSelector) bool {
	return len(metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, nil)) == 0
}

// validDeletionCost tells whether the annotation that orders the removal of replicas is a 32 bit number in its shortest form, or absent.
func validDeletionCost(annotations map[string]string) bool {
	text, there := annotations[corev1.PodDeletionCost]
	if !there {
		return true
	}
	if strings.HasPrefix(text, "+") || strings.HasPrefix(text, "0") && text != "0" {
		return false
	}
	_, err := strconv.ParseInt(text, 10, 32)
	return err == nil
}
