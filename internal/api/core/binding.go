package core

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/check"
)

// Bindings is the row of core/v1 Binding, which is not stored: creating one assigns the pod of its name to a node.
var Bindings = api.Register(&api.Resource{
	Name:       "bindings",
	Singular:   "binding",
	Kind:       "Binding",
	Namespaced: true,
	Versions: []api.Version{{
		Version: "v1",
		New:     func() api.Object { return &corev1.Binding{} },
	}},
	Verbs:     []string{"create"},
	CreateVia: &api.SubresourceName{Resource: "pods", Subresource: "binding"},
})

// bindingSubresource assigns its pod to a node.
var bindingSubresource = api.Subresource{
	Name:  "binding",
	Verbs: []string{"create"},
	GVK:   corev1.SchemeGroupVersion.WithKind("Binding"),
	New:   func() runtime.Object { return &corev1.Binding{} },
	Check: func(name string, body runtime.Object, _ *metav1.CreateOptions) error {
		b := body.(*corev1.Binding)
		if name != b.Name {
			return apierrors.NewBadRequest("name in URL does not match name in Binding object")
		}
		if errs := validateBinding(b); len(errs) > 0 {
			return field.ErrorList(errs).ToAggregate()
		}
		return nil
	},
	Apply: func(parent api.Object, body runtime.Object) (api.Object, runtime.Object, error) {
		pod, err := Bind(parent.(*corev1.Pod), body.(*corev1.Binding), metav1.Now())
		if err != nil {
			return nil, nil, err
		}
		return pod, &metav1.Status{Status: metav1.StatusSuccess}, nil
	},
}

// Bind returns the pod as it is once a valid binding has assigned it to a node, or says why it cannot be.
func Bind(pod *corev1.Pod, b *corev1.Binding, now metav1.Time) (*corev1.Pod, error) {
	conflict := func(format string, args ...any) (*corev1.Pod, error) {
		return nil, apierrors.NewConflict(corev1.Resource("pods/binding"), pod.Name, fmt.Errorf(format, args...))
	}
	switch {
	case pod.DeletionTimestamp != nil:
		return conflict("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return conflict("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) != 0:
		return conflict("pod %v has non-empty .spec.schedulingGates", pod.Name)
	}
	bound := pod.DeepCopy()
	bound.Spec.NodeName = b.Target.Name
	bound.Status.NominatedNodeName = ""
	bound.Annotations = mergeInto(bound.Annotations, b.Annotations)
	bound.Labels = mergeInto(bound.Labels, b.Labels)
	setPodCondition(&bound.Status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, now)
	return bound, nil
}

func mergeInto(to, from map[string]string) map[string]string {
	if len(from) == 0 {
		return to
	}
	if to == nil {
		to = make(map[string]string, len(from))
	}
	maps.Copy(to, from)
	return to
}

func validateBinding(b *corev1.Binding) (e check.Errors) {
	target := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		e.Add(field.NotSupported(target.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	e.NonEmpty(target.Child("name"), b.Target.Name)
	return e
}
