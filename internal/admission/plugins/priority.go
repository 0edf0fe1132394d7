package plugins

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/admission"
)

// Priority resolves a pod's priority class, and keeps default classes unique.
type Priority struct {
	views *views
}

var (
	_ admission.Mutator   = (*Priority)(nil)
	_ admission.Validator = (*Priority)(nil)
)

// Name implements admission.Plugin.
func (*Priority) Name() string { return "Priority" }

// Handles implements admission.Selective.
func (*Priority) Handles(op admission.Operation) bool {
	return op != admission.Connect
}

// Admit implements admission.Mutator.
func (p *Priority) Admit(_ context.Context, r *admission.Request) error {
	if !concerns(r, "", "pods", "") {
		return nil
	}
	switch r.Operation {
	case admission.Create:
		return p.create(r)
	case admission.Update:
		return keepPriority(r)
	}
	return nil
}

func (p *Priority) create(r *admission.Request) error {
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest(errNotConverted.Error())
	}
	class, err := p.class(r, pod.Spec.PriorityClassName)
	if err != nil {
		return err
	}
	pod.Spec.PriorityClassName = class.Name
	if given := pod.Spec.Priority; given != nil && *given != class.Value {
		return forbidf(r, "the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *given, class.Value)
	}
	pod.Spec.Priority = ptr.To(class.Value)
	policy := class.PreemptionPolicy
	if policy == nil {
		return nil
	}
	if given := pod.Spec.PreemptionPolicy; given != nil && *given != *policy {
		return forbidf(r, "the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *given, *policy)
	}
	pod.Spec.PreemptionPolicy = ptr.To(*policy)
	return nil
}

// class returns the named class, or the default one. Without a default class, a pod's priority is 0.
func (p *Priority) class(r *admission.Request, name string) (*schedulingv1.PriorityClass, error) {
	if name != "" {
		class, ok := p.views.priorityClasses.Get("", name)
		if !ok {
			return nil, forbidf(r, "no PriorityClass with name %v was found", name)
		}
		return class, nil
	}
	if class := p.defaultClass(); class != nil {
		return class, nil
	}
	return &schedulingv1.PriorityClass{PreemptionPolicy: ptr.To(corev1.PreemptLowerPriority)}, nil
}

// defaultClass returns the default class; of several, which a race can leave, the lowest.
func (p *Priority) defaultClass() *schedulingv1.PriorityClass {
	var out *schedulingv1.PriorityClass
	for _, c := range p.views.priorityClasses.List("", nil) {
		if c.GlobalDefault && (out == nil || out.Value > c.Value) {
			out = c
		}
	}
	return out
}

// keepPriority restores what an update left out.
func keepPriority(r *admission.Request) error {
	pod, ok := r.Object.(*corev1.Pod)
	old, was := r.OldObject.(*corev1.Pod)
	if !ok || !was {
		return apierrors.NewBadRequest(errNotConverted.Error())
	}
	if pod.Spec.Priority == nil && old.Spec.Priority != nil {
		pod.Spec.Priority = ptr.To(*old.Spec.Priority)
	}
	if pod.Spec.PreemptionPolicy == nil && old.Spec.PreemptionPolicy != nil {
		pod.Spec.PreemptionPolicy = ptr.To(*old.Spec.PreemptionPolicy)
	}
	return nil
}

// Validate implements admission.Validator.
func (p *Priority) Validate(_ context.Context, r *admission.Request) error {
	if !concerns(r, schedulingv1.GroupName, "priorityclasses", "") || r.Operation != admission.Create && r.Operation != admission.Update {
		return nil
	}
	class, ok := r.Object.(*schedulingv1.PriorityClass)
	if !ok {
		return apierrors.NewBadRequest("resource was marked with kind PriorityClass but was unable to be converted")
	}
	if !class.GlobalDefault {
		return nil
	}
	if other := p.defaultClass(); other != nil && (r.Operation == admission.Create || other.Name != class.Name) {
		return forbidf(r, "PriorityClass %v is already marked as default. Only one default can exist", other.Name)
	}
	return nil
}
