package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api/check"
	"clipper.dev/clipper/internal/api/core"
)

// The limits of indexed jobs keep their status's lists of indexes short.
const (
	maxIndexedParallelism = 100_000
	maxFailedIndexes      = 100_000
	manyCompletions       = 100_000 // above this, and with a backoff per index, two limits are lower:
	parallelismOfMany     = 10_000
	failedIndexesOfMany   = 10_000
	maxManagedBy          = 63
)

// validateJob checks a whole job; old is nil on create.
func validateJob(j, old *batchv1.Job) (e check.Errors) {
	prefixed := true
	if old != nil {
		_, name := old.Spec.Template.Labels[batchv1.JobNameLabel]
		_, uid := old.Spec.Template.Labels[batchv1.ControllerUidLabel]
		prefixed = name && uid
	}
	e.Add(validateGeneratedSelector(j, prefixed)...)
	e.Add(validateSelectingSpec(j, old)...)
	if completions := ptr.Deref(j.Spec.Completions, 0); isIndexed(&j.Spec) && completions > 0 {
		if hostname := fmt.Sprintf("%s-%d", j.Name, completions-1); len(validation.IsDNS1123Label(hostname)) > 0 {
			e.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+hostname)
		}
	}
	return e
}

// validateGeneratedSelector checks that nobody meddled with what generateSelector made.
func validateGeneratedSelector(j *batchv1.Job, prefixed bool) (e check.Errors) {
	if ptr.Deref(j.Spec.ManualSelector, false) || j.Spec.Selector == nil {
		return nil
	}
	if j.UID == "" {
		e.Required(field.NewPath("metadata", "uid"), "")
	}
	path, generated := field.NewPath("spec", "template", "metadata", "labels"), labels.Set{}
	want := func(key, value string) {
		generated[key] = value
		if actual, there := j.Spec.Template.Labels[key]; !there {
			e.Required(path.Key(key), "must be '"+value+"'")
		} else if actual != value {
			e.Invalid(path.Key(key), j.Spec.Template.Labels, "must be '"+value+"'")
		}
	}
	want(legacyControllerUIDLabel, string(j.UID))
	want(legacyJobNameLabel, j.Name)
	if prefixed {
		want(batchv1.ControllerUidLabel, string(j.UID))
		want(batchv1.JobNameLabel, j.Name)
	}
	if selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !selector.Matches(generated) {
		e.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated")
	}
	return e
}

// validateSelectingSpec checks the spec of a job proper, which unlike the one in a CronJob has a selector.
func validateSelectingSpec(j, old *batchv1.Job) (e check.Errors) {
	s, path := &j.Spec, field.NewPath("spec")
	var template *corev1.PodTemplateSpec
	var bend metav1validation.LabelSelectorValidationOptions
	if old != nil {
		template = &old.Spec.Template
		bend.AllowInvalidLabelValueInSelector = metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
	}
	e.Add(validateSpec(s, template, path)...)
	if s.Selector == nil {
		e.Required(path.Child("selector"), "")
	} else {
		e.Add(metav1validation.ValidateLabelSelector(s.Selector, bend, path.Child("selector"))...)
	}
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
		e.Invalid(path.Child("template", "metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`")
	}
	return e
}

func validateSpec(s *batchv1.JobSpec, oldTemplate *corev1.PodTemplateSpec, path *field.Path) (e check.Errors) {
	for _, n := range []struct {
		name  string
		value *int32
	}{
		{"parallelism", s.Parallelism}, {"completions", s.Completions}, {"backoffLimit", s.BackoffLimit}, {"ttlSecondsAfterFinished", s.TTLSecondsAfterFinished},
		{"backoffLimitPerIndex", s.BackoffLimitPerIndex}, {"maxFailedIndexes", s.MaxFailedIndexes},
	} {
		e.NonNegative(path.Child(n.name), int64(ptr.Deref(n.value, 0)))
	}
	e.NonNegative(path.Child("activeDeadlineSeconds"), ptr.Deref(s.ActiveDeadlineSeconds, 0))
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		e.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified")
	}
	if s.ManagedBy != nil {
		e.Add(validation.IsDomainPrefixedPath(path.Child("managedBy"), *s.ManagedBy)...)
		if len(*s.ManagedBy) > maxManagedBy {
			e.TooLong(path.Child("managedBy"), maxManagedBy)
		}
	}
	e.Add(validateCompletionMode(s, path)...)
	if s.PodFailurePolicy != nil {
		e.Add(validateFailurePolicy(s, path.Child("podFailurePolicy"))...)
	}
	if s.SuccessPolicy != nil {
		if isIndexed(s) {
			e.Add(validateSuccessPolicy(s, path.Child("successPolicy"))...)
		} else {
			e.Invalid(path.Child("successPolicy"), *s.SuccessPolicy, "requires indexed completion mode")
		}
	}
	if policy := s.PodReplacementPolicy; policy != nil && s.PodFailurePolicy != nil {
		check.OneOf(&e, path.Child("podReplacementPolicy"), *policy, batchv1.Failed)
	} else if policy != nil {
		check.OneOf(&e, path.Child("podReplacementPolicy"), *policy, batchv1.Failed, batchv1.TerminatingOrFailed)
	}
	e.Add(core.ValidatePodTemplate(&s.Template, oldTemplate, path.Child("template"))...)
	e.Add(validateRestartPolicy(s, path.Child("template", "spec", "restartPolicy"))...)
	return e
}

func validateRestartPolicy(s *batchv1.JobSpec, path *field.Path) (e check.Errors) {
	switch policy := s.Template.Spec.RestartPolicy; policy {
	case corev1.RestartPolicyAlways, "":
		e.Required(path, `valid values: "OnFailure", "Never"`)
	case corev1.RestartPolicyNever:
	case corev1.RestartPolicyOnFailure:
		if s.PodFailurePolicy != nil {
			e.Invalid(path, policy, `only "Never" is supported when podFailurePolicy is specified`)
		}
	default:
		e.Add(field.NotSupported(path, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	}
	return e
}

func validateCompletionMode(s *batchv1.JobSpec, path *field.Path) (e check.Errors) {
	if s.CompletionMode != nil {
		supported := []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}
		if !slices.Contains(supported, *s.CompletionMode) {
			e.Add(field.NotSupported(path.Child("completionMode"), s.CompletionMode, supported))
		}
	}
	if isIndexed(s) {
		e.Add(validateIndexed(s, path)...)
	} else if ptr.Deref(s.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.NonIndexedCompletion {
		if s.BackoffLimitPerIndex != nil {
			e.Invalid(path.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode")
		}
		if s.MaxFailedIndexes != nil {
			e.Invalid(path.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "requires indexed completion mode")
		}
	}
	return e
}

func validateIndexed(s *batchv1.JobSpec, path *field.Path) (e check.Errors) {
	atMost := func(name string, n *int32, limit int32, when string) {
		if n != nil && *n > limit {
			e.Invalidf(path.Child(name), *n, "must be less than or equal to %d%s", limit, when)
		}
	}
	if s.Completions == nil {
		e.Required(path.Child("completions"), "when completion mode is Indexed")
	}
	atMost("parallelism", s.Parallelism, maxIndexedParallelism, " when completion mode is Indexed")
	if s.Completions != nil && s.MaxFailedIndexes != nil && *s.MaxFailedIndexes > *s.Completions {
		e.Invalid(path.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "must be less than or equal to completions")
	}
	atMost("maxFailedIndexes", s.MaxFailedIndexes, maxFailedIndexes, "")
	if ptr.Deref(s.Completions, 0) > manyCompletions && s.BackoffLimitPerIndex != nil {
		if s.MaxFailedIndexes == nil {
			e.Required(path.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", manyCompletions))
		}
		when := fmt.Sprintf(" when completions are above %d and used with backoff limit per index", manyCompletions)
		atMost("parallelism", s.Parallelism, parallelismOfMany, when)
		atMost("maxFailedIndexes", s.MaxFailedIndexes, failedIndexesOfMany, when)
	}
	return e
}

// validateJobUpdate looks at the spec twice, as upstream does: each complaint about it is in the answer twice.
func validateJobUpdate(j, old *batchv1.Job) check.Errors {
	e := validateJob(j, old)
	e.Add(apivalidation.ValidateObjectMetaUpdate(&j.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))...)
	e.Add(check.Finalizers(j)...)
	e.Add(validateSelectingSpec(j, old)...)
	s, o, path := &j.Spec, &old.Spec, field.NewPath("spec")
	switch at := path.Child("completions"); {
	case !isIndexed(s):
		e.Unchanged(at, s.Completions, o.Completions)
	case s.Completions != nil && !ptr.Equal(s.Completions, o.Completions) && *s.Completions != ptr.Deref(s.Parallelism, 0):
		e.Invalid(at, s.Completions, "can only be modified in tandem with spec.parallelism")
	}
	e.Unchanged(path.Child("selector"), s.Selector, o.Selector)
	e.Add(validateTemplateUpdate(j, old)...)
	e.Unchanged(path.Child("completionMode"), s.CompletionMode, o.CompletionMode)
	e.Unchanged(path.Child("podFailurePolicy"), s.PodFailurePolicy, o.PodFailurePolicy)
	e.Unchanged(path.Child("backoffLimitPerIndex"), s.BackoffLimitPerIndex, o.BackoffLimitPerIndex)
	e.Unchanged(path.Child("managedBy"), s.ManagedBy, o.ManagedBy)
	e.Unchanged(path.Child("successPolicy"), s.SuccessPolicy, o.SuccessPolicy)
	return e
}

// validateTemplateUpdate lets a suspended job's pods be scheduled elsewhere and be given other resources, as long as none runs.
func validateTemplateUpdate(j, old *batchv1.Job) (e check.Errors) {
	suspended := ptr.Deref(old.Spec.Suspend, false)
	idle := suspended && old.Status.Active == 0 && (old.Status.StartTime == nil || is(old, batchv1.JobSuspended))
	n, o, path := &j.Spec.Template, old.Spec.Template.DeepCopy(), field.NewPath("spec", "template")
	if !idle {
		e.Unchanged(path, *n, *o)
		return e
	}
	keepScheduling(o, n)
	keepResources(o.Spec.Containers, n.Spec.Containers)
	keepResources(o.Spec.InitContainers, n.Spec.InitContainers)
	e.Unchanged(field.NewPath("spec", "template.spec"), n.Spec, o.Spec)
	return e
}

// keepScheduling copies to o what may change about where pods go.
func keepScheduling(o, n *corev1.PodTemplateSpec) {
	switch {
	case n.Spec.Affinity == nil && o.Spec.Affinity != nil:
		o.Spec.Affinity.NodeAffinity = nil
		if *o.Spec.Affinity == (corev1.Affinity{}) {
			o.Spec.Affinity = nil
		}
	case n.Spec.Affinity != nil:
		setDefault(&o.Spec.Affinity, corev1.Affinity{})
		o.Spec.Affinity.NodeAffinity = n.Spec.Affinity.NodeAffinity
	}
	o.Spec.NodeSelector, o.Spec.Tolerations, o.Spec.SchedulingGates = n.Spec.NodeSelector, n.Spec.Tolerations, n.Spec.SchedulingGates
	o.Annotations, o.Labels = n.Annotations, n.Labels
}

func keepResources(o, n []corev1.Container) {
	for i := range n {
		if len(n) == len(o) && n[i].Name == o[i].Name {
			o[i].Resources = n[i].Resources
		}
	}
}
