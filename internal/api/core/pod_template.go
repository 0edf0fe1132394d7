package core

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api/check"
)

// ValidatePodTemplate checks the template of a workload; old is the template before an update, or nil.
func ValidatePodTemplate(t, old *corev1.PodTemplateSpec, path *field.Path) (e check.Errors) {
	opts := templateOptions(old)
	e.Add(validatePodTemplateMeta(t, path, opts)...)
	e.Add(validatePodSpec(&t.Spec, nil, path.Child("spec"), opts)...)
	e.Add(validateProfilesAgree(t.Annotations, &t.Spec, path.Child("spec"))...)
	if len(t.Spec.EphemeralContainers) > 0 {
		e.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template")
	}
	return e
}

// ValidateTemplateMeta is the part of ValidatePodTemplate that is about metadata.
func ValidateTemplateMeta(t, old *corev1.PodTemplateSpec, path *field.Path) check.Errors {
	return validatePodTemplateMeta(t, path, templateOptions(old))
}

func templateOptions(old *corev1.PodTemplateSpec) *podOptions {
	if old == nil {
		return podOptionsFor(false, nil, nil)
	}
	return podOptionsFor(false, &old.Spec, &old.ObjectMeta)
}

func validatePodTemplateMeta(t *corev1.PodTemplateSpec, path *field.Path, opts *podOptions) (e check.Errors) {
	annotations := path.Child("annotations")
	e.Add(metav1validation.ValidateLabels(t.Labels, path.Child("labels"))...)
	e.Add(apivalidation.ValidateAnnotations(t.Annotations, annotations)...)
	e.Add(validatePodAnnotations(t.Annotations, &t.Spec, annotations, opts)...)
	return e
}

// ValidateReplicatedTemplate is ValidatePodTemplate for workloads whose pods run for ever; owner is the kind's name in the complaint.
func ValidateReplicatedTemplate(t, old *corev1.PodTemplateSpec, selector labels.Selector, owner string, path *field.Path) (e check.Errors) {
	if t == nil {
		e.Required(path, "")
		return e
	}
	if !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		e.Invalid(path.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`")
	}
	e.Add(ValidatePodTemplate(t, old, path)...)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		e.Add(field.NotSupported(path.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		e.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+owner+" is not Supported")
	}
	return e
}

// TemplateWarnings warns of what a template's fields no longer do.
func TemplateWarnings(t *corev1.PodTemplateSpec, path *field.Path) []string {
	return specWarnings(path, &t.Spec, &t.ObjectMeta)
}

const tolerationsAnnotation = "scheduler.alpha.kubernetes.io/tolerations"

func validatePodAnnotations(annotations map[string]string, spec *corev1.PodSpec, path *field.Path, opts *podOptions) (e check.Errors) {
	if len(annotations) == 0 {
		return nil
	}
	if value, mirror := annotations[corev1.MirrorPodAnnotationKey]; mirror && spec.NodeName == "" {
		e.Invalid(path.Key(corev1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set")
	}
	if text := annotations[tolerationsAnnotation]; text != "" {
		var tolerations []corev1.Toleration
		if err := json.Unmarshal([]byte(text), &tolerations); err != nil {
			e.Invalid(path, tolerationsAnnotation, err.Error())
		} else {
			e.Add(validateTolerations(tolerations, path.Child(tolerationsAnnotation), opts)...)
		}
	}
	if !opts.badDeletionCost && !validDeletionCost(annotations) {
		e.Invalid(path.Key(corev1.PodDeletionCost), annotations[corev1.PodDeletionCost], "must be a 32bit integer")
	}
	e.Add(validateProfileAnnotations(annotations, spec, path)...)
	return e
}

// ValidateClaimTemplateMeta checks the metadata of a template for claims, which may have labels and annotations alone.
func ValidateClaimTemplateMeta(m *metav1.ObjectMeta, path *field.Path) (e check.Errors) {
	e.Add(apivalidation.ValidateAnnotations(m.Annotations, path.Child("annotations"))...)
	e.Add(metav1validation.ValidateLabels(m.Labels, path.Child("labels"))...)
	e.Add(validateOnlyFields(*m, []string{"Annotations", "Labels"}, "cannot be set", path)...)
	return e
}
