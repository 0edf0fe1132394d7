package plugins

import (
	"context"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation/path"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/client"
)

// RuntimeClass gives a pod the overhead and the scheduling rules of its runtime class.
type RuntimeClass struct {
	client client.Client
	views  *views
}

var (
	_ admission.Mutator   = (*RuntimeClass)(nil)
	_ admission.Validator = (*RuntimeClass)(nil)
)

var runtimeClasses = client.Kind[*nodev1.RuntimeClass]{GVR: nodev1.SchemeGroupVersion.WithResource("runtimeclasses")}

const overheadDiffers = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"

// Name implements admission.Plugin.
func (*RuntimeClass) Name() string { return "RuntimeClass" }

// Handles implements admission.Selective.
func (*RuntimeClass) Handles(op admission.Operation) bool {
	return op == admission.Create
}

// Admit implements admission.Mutator.
func (p *RuntimeClass) Admit(ctx context.Context, r *admission.Request) error {
	pod, class, err := p.classOf(ctx, r)
	if err != nil || pod == nil || class == nil {
		return err
	}
	if class.Overhead != nil {
		if len(pod.Spec.Overhead) > 0 && !equality.Semantic.DeepEqual(class.Overhead.PodFixed, pod.Spec.Overhead) {
			return forbidf(r, overheadDiffers)
		}
		pod.Spec.Overhead = class.Overhead.DeepCopy().PodFixed
	}
	if class.Scheduling != nil {
		return applyScheduling(r, pod, class.Scheduling.DeepCopy())
	}
	return nil
}

// Validate implements admission.Validator.
func (p *RuntimeClass) Validate(ctx context.Context, r *admission.Request) error {
	pod, class, err := p.classOf(ctx, r)
	if err != nil || pod == nil {
		return err
	}
	if class == nil || class.Overhead == nil {
		if pod.Spec.Overhead != nil {
			return forbidf(r, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
		}
		return nil
	}
	if !equality.Semantic.DeepEqual(class.Overhead.PodFixed, pod.Spec.Overhead) {
		return forbidf(r, overheadDiffers)
	}
	return nil
}

// classOf returns the pod of a request that makes one, and its class; both may be nil.
func (p *RuntimeClass) classOf(ctx context.Context, r *admission.Request) (*corev1.Pod, *nodev1.RuntimeClass, error) {
	if !concerns(r, "", "pods", "") || r.Operation != admission.Create {
		return nil, nil, nil
	}
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil, nil, apierrors.NewBadRequest("Resource was marked with kind Pod but was unable to be converted")
	}
	if pod.Spec.RuntimeClassName == nil {
		return pod, nil, nil
	}
	name := *pod.Spec.RuntimeClassName
	if class, ok := p.views.runtimeClasses.Get("", name); ok {
		return pod, class, nil
	}
	if err := unaskable(name); err != nil {
		return nil, nil, err
	}
	class, err := runtimeClasses.Get(ctx, p.client, "", name)
	if apierrors.IsNotFound(err) {
		return nil, nil, forbidf(r, "pod rejected: RuntimeClass %q not found", name)
	}
	return pod, class, err
}

// unaskable says why an object of a name can't be asked for, in the words of upstream's client.
func unaskable(name string) error {
	if name == "" {
		return errors.New("resource name may not be empty")
	}
	if problems := path.IsValidPathSegmentName(name); len(problems) > 0 {
		return fmt.Errorf("invalid resource name %q: %v", name, problems)
	}
	return nil
}

func applyScheduling(r *admission.Request, pod *corev1.Pod, s *nodev1.Scheduling) error {
	for key, value := range s.NodeSelector {
		if own, ok := pod.Spec.NodeSelector[key]; ok && own != value {
			return forbidf(r, "conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, own)
		}
	}
	if pod.Spec.NodeSelector == nil {
		pod.Spec.NodeSelector = s.NodeSelector
	} else {
		maps.Copy(pod.Spec.NodeSelector, s.NodeSelector)
	}
	pod.Spec.Tolerations = mergeTolerations(pod.Spec.Tolerations, s.Tolerations)
	return nil
}

// mergeTolerations joins two lists and leaves out what another toleration covers; of equal ones the first stays.
func mergeTolerations(first, second []corev1.Toleration) []corev1.Toleration {
	all := append(append([]corev1.Toleration(nil), first...), second...)
	var merged []corev1.Toleration
next:
	for i, t := range all {
		for _, m := range merged {
			if covers(m, t) {
				continue next
			}
		}
		for _, later := range all[i+1:] {
			if !equality.Semantic.DeepEqual(t, later) && covers(later, t) {
				continue next
			}
		}
		merged = append(merged, t)
	}
	return merged
}

// covers tells whether whatever t tolerates, s does.
func covers(s, t corev1.Toleration) bool {
	if equality.Semantic.DeepEqual(s, t) {
		return true
	}
	if t.Key != s.Key && (s.Key != "" || s.Operator != corev1.TolerationOpExists) {
		return false
	}
	if t.Effect != s.Effect && s.Effect != "" {
		return false
	}
	if s.Effect == corev1.TaintEffectNoExecute && s.TolerationSeconds != nil && (t.TolerationSeconds == nil || *t.TolerationSeconds > *s.TolerationSeconds) {
		return false
	}
	switch s.Operator {
	case corev1.TolerationOpEqual, "":
		return t.Operator == corev1.TolerationOpEqual && t.Value == s.Value
	case corev1.TolerationOpExists:
		return true
	}
	return false
}
