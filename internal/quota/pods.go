package quota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	helpers "k8s.io/component-helpers/resource"
)

// pods counts pods and what they request and are limited to. Pods that have ended count as objects only.
type pods struct{}

var (
	podCount = CountName(schema.GroupResource{Resource: "pods"})
	podNames = []corev1.ResourceName{
		podCount, corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
	}
	// mustSpecify are names that every container must say something about once a quota limits them.
	mustSpecify = []corev1.ResourceName{
		corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
	}
)

const requests = corev1.DefaultResourceRequestsPrefix

func (pods) Handles(r Request) bool {
	switch r.Subresource {
	case "":
		if r.Create {
			return true
		}
		now, ok := r.Object.(*corev1.Pod)
		old, was := r.Old.(*corev1.Pod)
		return ok && was && terminating(now) != terminating(old)
	case "resize":
		return !r.Create
	}
	return false
}

func (pods) Names(in []corev1.ResourceName) []corev1.ResourceName {
	var out []corev1.ResourceName
	for _, n := range in {
		s := string(n)
		if slices.Contains(podNames, n) || strings.HasPrefix(s, corev1.ResourceHugePagesPrefix) || strings.HasPrefix(s, requests+corev1.ResourceHugePagesPrefix) ||
			strings.HasPrefix(s, requests) && !native(n) || strings.HasPrefix(s, corev1.ResourceImplicitExtendedClaimsPerClass) {
			out = append(out, n)
		}
	}
	return out
}

// native tells whether a resource's name is Kubernetes' own.
func native(n corev1.ResourceName) bool {
	return !strings.Contains(string(n), "/") || strings.Contains(string(n), corev1.ResourceDefaultNamespacePrefix)
}

// extended tells whether a resource is one that devices bring.
func extended(n corev1.ResourceName) bool {
	return !native(n) && !strings.HasPrefix(string(n), requests) && len(validation.IsQualifiedName(requests+string(n))) == 0
}

func (pods) InScope(s corev1.ScopedResourceSelectorRequirement, o runtime.Object) bool {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return false
	}
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return terminating(pod)
	case corev1.ResourceQuotaScopeNotTerminating:
		return !terminating(pod)
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort(pod)
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(pod)
	case corev1.ResourceQuotaScopePriorityClass:
		return matchesValue(s, pod.Spec.PriorityClassName)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossesNamespaces(pod)
	}
	return false
}

func terminating(pod *corev1.Pod) bool {
	return pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
}

func bestEffort(pod *corev1.Pod) bool {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass == corev1.PodQOSBestEffort
	}
	asks := func(l corev1.ResourceList) bool {
		return l.Cpu().Sign() > 0 || l.Memory().Sign() > 0
	}
	if r := pod.Spec.Resources; r != nil && (asks(r.Requests) || asks(r.Limits)) {
		return false
	}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for _, c := range list {
			if asks(c.Resources.Requests) || asks(c.Resources.Limits) {
				return false
			}
		}
	}
	return true
}

func crossesNamespaces(pod *corev1.Pod) bool {
	a := pod.Spec.Affinity
	if a == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	weighted := func(in []corev1.WeightedPodAffinityTerm) {
		for _, t := range in {
			terms = append(terms, t.PodAffinityTerm)
		}
	}
	if p := a.PodAffinity; p != nil {
		terms = append(terms, p.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		terms = append(terms, p.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}

func (pods) Constraints(required []corev1.ResourceName, o runtime.Object) error {
	pod, ok := o.(*corev1.Pod)
	if !ok || helpers.IsPodLevelResourcesSet(pod) {
		return nil
	}
	required = intersection(required, mustSpecify)
	missing := map[corev1.ResourceName][]string{}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for _, c := range list {
			says := usageOf(c.Resources.Requests, c.Resources.Limits)
			for _, n := range required {
				if _, ok := says[n]; !ok && !slices.Contains(missing[n], c.Name) {
					missing[n] = append(missing[n], c.Name)
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var parts []string
	for _, n := range slices.Sorted(maps.Keys(missing)) {
		slices.Sort(missing[n])
		parts = append(parts, fmt.Sprintf("%s for: %s", n, strings.Join(missing[n], ",")))
	}
	return fmt.Errorf("must specify %s", strings.Join(parts, "; "))
}

func (pods) Usage(o runtime.Object, now time.Time) corev1.ResourceList {
	out := corev1.ResourceList{podCount: count(1)}
	pod, ok := o.(*corev1.Pod)
	if !ok || ended(pod, now) {
		return out
	}
	opts := helpers.PodResourcesOptions{UseStatusResources: true}
	return Add(out, usageOf(helpers.PodRequests(pod, opts), helpers.PodLimits(pod, opts)))
}

// ended tells whether a pod uses nothing any more: it is over, or its time to end has passed.
func ended(pod *corev1.Pod, now time.Time) bool {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	if pod.DeletionTimestamp == nil || pod.DeletionGracePeriodSeconds == nil {
		return false
	}
	return now.After(pod.DeletionTimestamp.Add(time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second))
}

// usageOf gives requests and limits all the names under which quotas know them.
func usageOf(req, limits corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourcePods: count(1)}
	for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, ok := req[n]; ok {
			out[n], out[requests+n] = q, q
		}
		if q, ok := limits[n]; ok {
			out["limits."+n] = q
		}
	}
	for n, q := range req {
		switch {
		case strings.HasPrefix(string(n), corev1.ResourceHugePagesPrefix):
			out[n], out[requests+n] = q, q
		case extended(n), strings.HasPrefix(string(n), resourcev1.ResourceDeviceClassPrefix):
			out[requests+n] = q
		}
	}
	return out
}
