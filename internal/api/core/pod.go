package core

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// Pods is the row of core/v1 Pod.
var Pods = api.Register(&api.Resource{
	Name:         "pods",
	Singular:     "pod",
	Kind:         "Pod",
	ShortNames:   []string{"po"},
	Categories:   []string{"all"},
	Namespaced:   true,
	MetaOnUpdate: "UN",
	Versions:     []api.Version{api.Serve[corev1.Pod, corev1.PodList]("v1")},
	Prefix:       "pods",

	Default:                  api.On(defaultPod),
	PrepareCreate:            api.On(preparePod),
	PrepareUpdate:            api.OnUpdate(preparePodUpdate),
	Validate:                 api.Check(validatePodCreate),
	ValidateUpdate:           api.CheckUpdate(validatePodUpdate),
	Canonicalize:             api.On(func(p *corev1.Pod) { p.Spec.DeprecatedServiceAccount = p.Spec.ServiceAccountName }),
	Warnings:                 api.Warn(podWarnings),
	AllowUnconditionalUpdate: true,
	HasGeneration:            true,
	SpecChanged:              podSpecChanged,
	DeleteGracefully:         deletePodGracefully,
	ReturnsDeleted:           true,

	Fields: map[string]func(api.Object) string{
		"spec.nodeName":            api.Select(func(p *corev1.Pod) string { return p.Spec.NodeName }),
		"spec.restartPolicy":       api.Select(func(p *corev1.Pod) string { return string(p.Spec.RestartPolicy) }),
		"spec.schedulerName":       api.Select(func(p *corev1.Pod) string { return p.Spec.SchedulerName }),
		"spec.serviceAccountName":  api.Select(func(p *corev1.Pod) string { return p.Spec.ServiceAccountName }),
		"spec.hostNetwork":         api.Select(func(p *corev1.Pod) string { return strconv.FormatBool(p.Spec.HostNetwork) }),
		"status.phase":             api.Select(func(p *corev1.Pod) string { return string(p.Status.Phase) }),
		"status.podIP":             api.Select(func(p *corev1.Pod) string { return p.Status.PodIP }),
		"status.nominatedNodeName": api.Select(func(p *corev1.Pod) string { return p.Status.NominatedNodeName }),
	},
	Indexed: []string{"spec.nodeName"},

	Columns:       podColumns,
	Cells:         api.Print(podCells),
	RowConditions: podRowConditions,

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(preparePodStatus),
		ValidateUpdate: api.CheckUpdate(validatePodStatus),
		Warnings:       api.Warn(podStatusWarnings),
		ResetFields:    []string{"spec", "metadata.deletionTimestamp", "metadata.ownerReferences"},
	},
	Subresources: []api.Subresource{
		bindingSubresource,
		evictionSubresource,
		{
			Name:           "ephemeralcontainers",
			Verbs:          []string{"get", "patch", "update"},
			New:            func() runtime.Object { return &corev1.Pod{} },
			PrepareUpdate:  api.OnUpdate(keepAllButEphemeral),
			ValidateUpdate: api.CheckUpdate(validateEphemeralUpdate),
			MetaOnUpdate:   "UN",
		},
		{
			Name:           "resize",
			Verbs:          []string{"get", "patch", "update"},
			New:            func() runtime.Object { return &corev1.Pod{} },
			PrepareUpdate:  api.OnUpdate(keepAllButResources),
			ValidateUpdate: api.CheckUpdate(validateResize),
			MetaOnUpdate:   "UN",
		},
	},
	Connect: []string{"attach", "exec", "log", "portforward", "proxy"},
})

func preparePod(pod *corev1.Pod) {
	dropDisabledFields(&pod.Spec, nil)
	class := pod.Status.QOSClass // kept if a client sets it, as upstream does
	if class == "" {
		class = ComputeQOS(&pod.Spec)
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: class}
	if len(pod.Spec.SchedulingGates) > 0 {
		setPodCondition(&pod.Status, corev1.PodCondition{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",
		}, metav1.Now())
	}
	mergeLabelKeys(pod)
	appArmorFields(pod)
}

func preparePodUpdate(pod, old *corev1.Pod) {
	pod.Status = old.Status
	dropDisabledFields(&pod.Spec, &old.Spec)
}

func podSpecChanged(n, o api.Object) bool {
	return !equality.Semantic.DeepEqual(n.(*corev1.Pod).Spec, o.(*corev1.Pod).Spec)
}

// setPodCondition adds or replaces the condition of its type; the time of transition moves only when the status does.
func setPodCondition(s *corev1.PodStatus, c corev1.PodCondition, now metav1.Time) {
	c.LastTransitionTime = now
	for i := range s.Conditions {
		if s.Conditions[i].Type != c.Type {
			continue
		}
		if s.Conditions[i].Status == c.Status {
			c.LastTransitionTime = s.Conditions[i].LastTransitionTime
		}
		s.Conditions[i] = c
		return
	}
	s.Conditions = append(s.Conditions, c)
}

// mergeLabelKeys writes the values that a pod has for the keys of matchLabelKeys into the selectors beside them.
func mergeLabelKeys(pod *corev1.Pod) {
	add := func(s *metav1.LabelSelector, keys []string, op metav1.LabelSelectorOperator) {
		for _, key := range keys {
			if value, there := pod.Labels[key]; there && s != nil {
				s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: []string{value}})
			}
		}
	}
	term := func(t *corev1.PodAffinityTerm) {
		add(t.LabelSelector, t.MatchLabelKeys, metav1.LabelSelectorOpIn)
		add(t.LabelSelector, t.MismatchLabelKeys, metav1.LabelSelectorOpNotIn)
	}
	terms := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i := range preferred {
			term(&preferred[i].PodAffinityTerm)
		}
		for i := range required {
			term(&required[i])
		}
	}
	if a := pod.Spec.Affinity; a != nil {
		if p := a.PodAffinity; p != nil {
			terms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
		}
		if p := a.PodAntiAffinity; p != nil {
			terms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
		}
	}
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		add(c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn)
	}
}

// appArmorFields brings profiles from annotations to their fields.
func appArmorFields(pod *corev1.Pod) {
	if len(pod.Annotations) == 0 || pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		return
	}
	for _, c := range allContainers(&pod.Spec) {
		text, there := pod.Annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]
		if !there || c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			continue
		}
		profile := appArmorOf(text)
		if profile == nil || len(validateAppArmor(profile, field.NewPath(""))) > 0 || equality.Semantic.DeepEqual(profile, podAppArmor(&pod.Spec)) {
			continue
		}
		set(&c.SecurityContext, corev1.SecurityContext{})
		c.SecurityContext.AppArmorProfile = profile
	}
}

func podAppArmor(spec *corev1.PodSpec) *corev1.AppArmorProfile {
	if spec.SecurityContext == nil {
		return nil
	}
	return spec.SecurityContext.AppArmorProfile
}

// appArmorOf reads a profile from an annotation; nil if it names none.
func appArmorOf(text string) *corev1.AppArmorProfile {
	switch text {
	case corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	case corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	}
	if name, ok := strings.CutPrefix(text, corev1.DeprecatedAppArmorBetaProfileNamePrefix); ok && name != "" {
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
	}
	return nil
}

// deletePodGracefully decides how long a pod may take to end. One that no node runs goes at once.
func deletePodGracefully(o api.Object, opts *metav1.DeleteOptions) bool {
	pod := o.(*corev1.Pod)
	if opts == nil {
		return false
	}
	var grace int64
	switch {
	case opts.GracePeriodSeconds != nil:
		grace = *opts.GracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		grace = 0
	}
	if grace < 0 {
		grace = 1
	}
	opts.GracePeriodSeconds = &grace
	return true
}

// validatePodMain checks what creations and updates have in common.
func validatePodMain(pod *corev1.Pod, opts *podOptions) (e check.Errors) {
	meta, spec := field.NewPath("metadata"), field.NewPath("spec")
	e.Add(validatePodAnnotations(pod.Annotations, &pod.Spec, meta.Child("annotations"), opts)...)
	e.Add(validatePodSpec(&pod.Spec, &pod.ObjectMeta, spec, opts)...)
	if pod.Spec.ServiceAccountName == "" {
		for i, v := range pod.Spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for j, s := range v.Projected.Sources {
				if s.ServiceAccountToken != nil {
					e.Forbidden(spec.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"),
						"must not be specified when serviceAccountName is not set")
				}
			}
		}
	}
	for i := range pod.Spec.Containers {
		e.Add(validateTrimmedImage(pod.Spec.Containers[i].Image, spec.Child("containers").Index(i))...)
	}
	for i := range pod.Spec.InitContainers {
		e.Add(validateTrimmedImage(pod.Spec.InitContainers[i].Image, spec.Child("initContainers").Index(i))...)
	}
	return e
}

func validatePodCreate(pod *corev1.Pod) (e check.Errors) {
	e.Add(validatePodMain(pod, podOptionsFor(true, nil, nil))...)
	spec := field.NewPath("spec")
	if len(pod.Spec.EphemeralContainers) > 0 {
		e.Forbidden(spec.Child("ephemeralContainers"), "cannot be set on create")
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) > 0 {
		e.Forbidden(spec.Child("nodeName"), "cannot be set until all schedulingGates have been cleared")
	}
	e.Add(validateProfilesAgree(pod.Annotations, &pod.Spec, spec)...)
	return e
}

func podWarnings(pod, old *corev1.Pod) (warnings []string) {
	if old != nil {
		return nil
	}
	if msgs := validation.IsDNS1123Label(pod.Name); len(msgs) > 0 {
		warnings = append(warnings, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return append(warnings, specWarnings(nil, &pod.Spec, &pod.ObjectMeta)...)
}

func podStatusWarnings(pod, _ *corev1.Pod) (warnings []string) {
	for i, ip := range pod.Status.PodIPs {
		warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("status", "podIPs").Index(i).Child("ip"), ip.IP)...)
	}
	for i, ip := range pod.Status.HostIPs {
		warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("status", "hostIPs").Index(i).Child("ip"), ip.IP)...)
	}
	return warnings
}
