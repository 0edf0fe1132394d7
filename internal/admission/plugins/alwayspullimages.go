package plugins

import (
	"context"
	"iter"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/admission"
)

// AlwaysPullImages has every image pulled, so that nobody runs one that a node has but that they may not pull. It is off by default.
type AlwaysPullImages struct{}

var (
	_ admission.Mutator   = AlwaysPullImages{}
	_ admission.Validator = AlwaysPullImages{}
)

// Name implements admission.Plugin.
func (AlwaysPullImages) Name() string { return "AlwaysPullImages" }

// Admit implements admission.Mutator.
func (AlwaysPullImages) Admit(_ context.Context, r *admission.Request) error {
	pod, err := newImagesOf(r)
	if err != nil || pod == nil {
		return err
	}
	for _, policy := range pullPolicies(&pod.Spec) {
		*policy = corev1.PullAlways
	}
	return nil
}

// Validate implements admission.Validator: others may have changed the pod since.
func (AlwaysPullImages) Validate(_ context.Context, r *admission.Request) error {
	pod, err := newImagesOf(r)
	if err != nil || pod == nil {
		return err
	}
	var errs []error
	for path, policy := range pullPolicies(&pod.Spec) {
		if *policy != corev1.PullAlways {
			errs = append(errs, forbid(r, field.NotSupported(path, *policy, []corev1.PullPolicy{corev1.PullAlways})))
		}
	}
	return utilerrors.NewAggregate(errs)
}

// newImagesOf returns the request's pod if it has images that it had not before, else nil.
func newImagesOf(r *admission.Request) (*corev1.Pod, error) {
	if !concerns(r, "", "pods", "") || r.Operation != admission.Create && r.Operation != admission.Update {
		return nil, nil
	}
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil, apierrors.NewBadRequest("Resource was marked with kind Pod but was unable to be converted")
	}
	old, ok := r.OldObject.(*corev1.Pod)
	if r.Operation == admission.Create || !ok {
		return pod, nil
	}
	had := sets.New[string]()
	for _, c := range containersOf(&old.Spec) {
		had.Insert(c.Image)
	}
	for _, c := range containersOf(&pod.Spec) {
		if !had.Has(c.Image) {
			return pod, nil
		}
	}
	return nil, nil
}

// pullPolicies are all of a pod's, with where they stand.
func pullPolicies(spec *corev1.PodSpec) iter.Seq2[*field.Path, *corev1.PullPolicy] {
	return func(yield func(*field.Path, *corev1.PullPolicy) bool) {
		for path, c := range containersOf(spec) {
			if !yield(path.Child("imagePullPolicy"), &c.ImagePullPolicy) {
				return
			}
		}
		for i := range spec.Volumes {
			image := spec.Volumes[i].Image
			if image != nil && !yield(field.NewPath("spec", "volumes").Index(i).Child("image", "pullPolicy"), &image.PullPolicy) {
				return
			}
		}
	}
}

// containersOf are a pod's containers of every sort, with where they stand.
func containersOf(spec *corev1.PodSpec) iter.Seq2[*field.Path, *corev1.Container] {
	return func(yield func(*field.Path, *corev1.Container) bool) {
		at := field.NewPath("spec")
		for i := range spec.InitContainers {
			if !yield(at.Child("initContainers").Index(i), &spec.InitContainers[i]) {
				return
			}
		}
		for i := range spec.Containers {
			if !yield(at.Child("containers").Index(i), &spec.Containers[i]) {
				return
			}
		}
		for i := range spec.EphemeralContainers {
			if !yield(at.Child("ephemeralContainers").Index(i), (*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon)) {
				return
			}
		}
	}
}
