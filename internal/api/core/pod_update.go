package core

import (
	"fmt"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

const mutablePodFields = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

func validatePodUpdate(pod, old *corev1.Pod) (e check.Errors) {
	opts := podOptionsFor(true, &old.Spec, &old.ObjectMeta)
	spec := field.NewPath("spec")
	e.Add(validatePodMain(pod, opts)...)
	e.Add(validateAnnotationUpdate(pod, old, opts)...)
	for _, list := range []struct {
		name     string
		new, old []corev1.Container
	}{{"containers", pod.Spec.Containers, old.Spec.Containers}, {"initContainers", pod.Spec.InitContainers, old.Spec.InitContainers}} {
		at := spec.Child(list.name)
		if len(list.new) != len(list.old) {
			e.Forbidden(at, "pod updates may not add or remove containers")
			return e
		}
		for i := range list.new {
			e.NonEmpty(at.Index(i).Child("image"), list.new[i].Image)
			e.Add(validateTrimmedImage(list.new[i].Image, at.Index(i))...)
		}
	}
	if stop := validateDeadlineUpdate(&e, pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds, spec.Child("activeDeadlineSeconds")); stop {
		return e
	}
	e.Add(validateAddedTolerations(pod.Spec.Tolerations, old.Spec.Tolerations, spec.Child("tolerations"), opts)...)
	e.Add(validateRemovedGates(pod.Spec.SchedulingGates, old.Spec.SchedulingGates, spec.Child("schedulingGates"))...)
	if equality.Semantic.DeepEqual(pod.Spec, old.Spec) {
		return e
	}
	e.Add(validateImmutableRest(pod, old, spec)...)
	return e
}

// validateImmutableRest puts back what may change and compares the rest.
func validateImmutableRest(pod, old *corev1.Pod, path *field.Path) (e check.Errors) {
	rest := pod.Spec.DeepCopy()
	for i := range rest.Containers {
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	rest.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	rest.SchedulingGates = old.Spec.SchedulingGates
	rest.Tolerations = old.Spec.Tolerations
	if before, now := old.Spec.TerminationGracePeriodSeconds, rest.TerminationGracePeriodSeconds; before != nil && *before < 0 && now != nil && *now == 1 {
		rest.TerminationGracePeriodSeconds = before
	}
	if len(old.Spec.SchedulingGates) > 0 {
		e.Add(validateGatedPlacement(rest, &old.Spec, path)...)
	}
	if !equality.Semantic.DeepEqual(*rest, old.Spec) {
		e.Forbidden(path, fmt.Sprintf("pod updates may not change fields other than %s\n%v", mutablePodFields, diff.Diff(old.Spec, *rest)))
	}
	return e
}

// validateGatedPlacement lets the placement of a pod that isn't scheduled yet become narrower, and puts it back in rest.
func validateGatedPlacement(rest, old *corev1.PodSpec, path *field.Path) (e check.Errors) {
	if !equality.Semantic.DeepEqual(rest.NodeSelector, old.NodeSelector) {
		for key, value := range old.NodeSelector {
			if now, there := rest.NodeSelector[key]; !there || now != value {
				e.Invalid(path.Child("nodeSelector"), rest.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)")
				break
			}
		}
		rest.NodeSelector = old.NodeSelector
	}
	nodeAffinity := func(a *corev1.Affinity) *corev1.NodeAffinity {
		if a == nil {
			return nil
		}
		return a.NodeAffinity
	}
	before, now := nodeAffinity(old.Affinity), nodeAffinity(rest.Affinity)
	if equality.Semantic.DeepEqual(before, now) {
		return e
	}
	e.Add(validateNarrowed(now, before, path.Child("affinity", "nodeAffinity"))...)
	switch {
	case rest.Affinity == nil && before == nil:
	case rest.Affinity == nil:
		rest.Affinity = &corev1.Affinity{NodeAffinity: before}
	case old.Affinity == nil && rest.Affinity.PodAntiAffinity == nil && rest.Affinity.PodAffinity == nil:
		rest.Affinity = nil
	default:
		rest.Affinity.NodeAffinity = before
	}
	return e
}

func validateNarrowed(now, before *corev1.NodeAffinity, path *field.Path) (e check.Errors) {
	if before == nil || before.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	at := path.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	oldTerms := before.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	var terms []corev1.NodeSelectorTerm
	if now != nil && now.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		terms = now.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	if len(oldTerms) > 0 && len(oldTerms) != len(terms) {
		e.Invalid(at, terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
		return e
	}
	for i := range oldTerms {
		if !onlyAdds(terms[i], oldTerms[i]) {
			e.Invalid(at.Index(i), terms[i], "only additions are allowed (no mutations or deletions)")
		}
	}
	return e
}

// onlyAdds tells whether a term requires all that it did before. An empty term matches nothing and must not begin to.
func onlyAdds(now, before corev1.NodeSelectorTerm) bool {
	if len(before.MatchExpressions)+len(before.MatchFields) == 0 && len(now.MatchExpressions)+len(now.MatchFields) > 0 {
		return false
	}
	prefix := func(long, short []corev1.NodeSelectorRequirement) bool {
		return len(long) >= len(short) && (len(short) == 0 || equality.Semantic.DeepEqual(long[:len(short)], short))
	}
	return prefix(now.MatchExpressions, before.MatchExpressions) && prefix(now.MatchFields, before.MatchFields)
}

func validateDeadlineUpdate(e *check.Errors, now, before *int64, path *field.Path) (stop bool) {
	switch {
	case now == nil:
		if before != nil {
			e.Invalid(path, now, "must not update from a positive integer to nil value")
		}
	case *now < 0 || *now > math.MaxInt32:
		e.Invalid(path, *now, validation.InclusiveRangeError(0, math.MaxInt32))
		return true
	case before != nil && *before < *now:
		e.Invalid(path, *now, "must be less than or equal to previous value")
		return true
	}
	return false
}

// validateAddedTolerations lets tolerations be added, and their seconds be changed.
func validateAddedTolerations(now, before []corev1.Toleration, path *field.Path, opts *podOptions) (e check.Errors) {
	lasting := func(t corev1.Toleration) corev1.Toleration { t.TolerationSeconds = nil; return t }
	kept := map[corev1.Toleration]bool{}
	for _, t := range now {
		kept[lasting(t)] = true
	}
	for _, old := range before {
		if !kept[lasting(old)] {
			e.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")
			return e
		}
	}
	e.Add(validateTolerations(now, path, opts)...)
	return e
}

func validateRemovedGates(now, before []corev1.PodSchedulingGate, path *field.Path) (e check.Errors) {
	old := map[string]bool{}
	for _, g := range before {
		old[g.Name] = true
	}
	last := map[string]int{}
	for i, g := range now {
		last[g.Name] = i
	}
	for i, g := range now {
		if !old[g.Name] && last[g.Name] == i {
			e.Forbidden(path.Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name))
		}
	}
	return e
}

// validateAnnotationUpdate refuses changes of annotations that decide how a pod runs.
func validateAnnotationUpdate(pod, old *corev1.Pod, opts *podOptions) (e check.Errors) {
	path := field.NewPath("metadata", "annotations")
	for key, value := range old.Annotations {
		if now, there := pod.Annotations[key]; there && now == value {
			continue
		}
		if strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) {
			e.Forbidden(path.Key(key), "may not remove or update AppArmor annotations")
		}
		if key == corev1.MirrorPodAnnotationKey {
			e.Forbidden(path.Key(key), "may not remove or update mirror pod annotation")
		}
	}
	for key := range pod.Annotations {
		if _, there := old.Annotations[key]; there {
			continue
		}
		if strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) {
			e.Forbidden(path.Key(key), "may not add AppArmor annotations")
		}
		if key == corev1.MirrorPodAnnotationKey {
			e.Forbidden(path.Key(key), "may not add mirror pod annotation")
		}
	}
	e.Add(validatePodAnnotations(pod.Annotations, &pod.Spec, path, opts)...)
	return e
}

// keepAllButEphemeral lets an update of the subresource change ephemeral containers alone.
func keepAllButEphemeral(pod, old *corev1.Pod) {
	ephemeral := pod.Spec.EphemeralContainers
	pod.Spec, pod.Status = *old.Spec.DeepCopy(), old.Status
	pod.Spec.EphemeralContainers = ephemeral
	keepMeta(pod, old)
	dropDisabledFields(&pod.Spec, &old.Spec)
}

// keepMeta puts back the metadata that an update of a subresource does not change.
func keepMeta(pod, old *corev1.Pod) {
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = old.DeletionTimestamp, old.DeletionGracePeriodSeconds
	pod.OwnerReferences, pod.Finalizers = old.OwnerReferences, old.Finalizers
	pod.Labels, pod.Annotations = old.Labels, old.Annotations
	pod.Generation = old.Generation
}

func validateEphemeralUpdate(pod, old *corev1.Pod) (e check.Errors) {
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		e.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")
		return e
	}
	opts := podOptionsFor(true, &old.Spec, &old.ObjectMeta)
	e.Add(validatePodMain(pod, opts)...)
	e.Add(validateAnnotationUpdate(pod, old, opts)...)
	path := field.NewPath("spec", "ephemeralContainers")
	now := map[string]*corev1.EphemeralContainer{}
	for i := range pod.Spec.EphemeralContainers {
		now[pod.Spec.EphemeralContainers[i].Name] = &pod.Spec.EphemeralContainers[i]
	}
	for _, before := range old.Spec.EphemeralContainers {
		c, there := now[before.Name]
		if !there {
			e.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", before.Name))
		} else if !equality.Semantic.DeepEqual(before, *c) {
			e.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", before.Name, diff.Diff(before, *c)))
		}
	}
	return e
}
