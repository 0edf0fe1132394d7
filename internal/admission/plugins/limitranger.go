package plugins

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	helpers "k8s.io/component-helpers/resource"

	"clipper.dev/clipper/internal/admission"
)

// LimitRanger gives containers the default requests and limits of their namespace, and keeps pods and claims within its bounds.
type LimitRanger struct {
	views *views
}

var (
	_ admission.Mutator   = (*LimitRanger)(nil)
	_ admission.Validator = (*LimitRanger)(nil)
)

const limitRangerAnnotation = "kubernetes.io/limit-ranger"

// Name implements admission.Plugin.
func (*LimitRanger) Name() string { return "LimitRanger" }

// Handles implements admission.Selective.
func (*LimitRanger) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Admit implements admission.Mutator.
func (p *LimitRanger) Admit(_ context.Context, r *admission.Request) error {
	pod, ok := r.Object.(*corev1.Pod)
	if !ok || !limited(r) {
		return nil
	}
	for _, l := range p.views.limits.List(r.Namespace, nil) {
		applyDefaults(pod, l)
	}
	return nil
}

// Validate implements admission.Validator.
func (p *LimitRanger) Validate(_ context.Context, r *admission.Request) error {
	if !limited(r) {
		return nil
	}
	for _, l := range p.views.limits.List(r.Namespace, nil) {
		var errs []error
		switch o := r.Object.(type) {
		case *corev1.Pod:
			errs = podErrors(o, l)
		case *corev1.PersistentVolumeClaim:
			errs = claimErrors(o, l)
		}
		if len(errs) > 0 {
			return forbid(r, utilerrors.NewAggregate(errs))
		}
	}
	return nil
}

// limited tells whether a request is one for which limits count: pods when they are made or resized, claims always; nothing that is going away.
func limited(r *admission.Request) bool {
	if r.OldObject != nil {
		if m, err := meta.Accessor(r.OldObject); err == nil && m.GetDeletionTimestamp() != nil {
			return false
		}
	}
	switch {
	case concerns(r, "", "pods", ""):
		return r.Operation == admission.Create
	case concerns(r, "", "pods", "resize"):
		return r.Operation == admission.Update
	case concerns(r, "", "persistentvolumeclaims", ""):
		return r.Operation == admission.Create || r.Operation == admission.Update
	}
	return false
}

func applyDefaults(pod *corev1.Pod, l *corev1.LimitRange) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for _, item := range l.Spec.Limits {
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		for name, q := range item.DefaultRequest {
			requests[name] = q
		}
		for name, q := range item.Default {
			limits[name] = q
		}
	}
	var notes []string
	for i := range pod.Spec.Containers {
		notes = append(notes, fill(&pod.Spec.Containers[i], "container", requests, limits)...)
	}
	for i := range pod.Spec.InitContainers {
		notes = append(notes, fill(&pod.Spec.InitContainers[i], "init container", requests, limits)...)
	}
	if len(notes) == 0 {
		return
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[limitRangerAnnotation] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
}

// fill gives a container what it doesn't say and tells what that was.
func fill(c *corev1.Container, what string, requests, limits corev1.ResourceList) []string {
	if c.Resources.Limits == nil {
		c.Resources.Limits = corev1.ResourceList{}
	}
	if c.Resources.Requests == nil {
		c.Resources.Requests = corev1.ResourceList{}
	}
	var notes []string
	for _, f := range []struct {
		name     string
		have     corev1.ResourceList
		defaults corev1.ResourceList
	}{{"request", c.Resources.Requests, requests}, {"limit", c.Resources.Limits, limits}} {
		var set []string
		for name, q := range f.defaults {
			if _, ok := f.have[name]; !ok {
				f.have[name] = q.DeepCopy()
				set = append(set, string(name))
			}
		}
		if len(set) > 0 {
			slices.Sort(set)
			notes = append(notes, fmt.Sprintf("%s %s for %s %s", strings.Join(set, ", "), f.name, what, c.Name))
		}
	}
	return notes
}

func podErrors(pod *corev1.Pod, l *corev1.LimitRange) []error {
	var errs []error
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		switch item.Type {
		case corev1.LimitTypeContainer:
			for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
				for _, c := range list {
					errs = append(errs, itemErrors(item, c.Resources.Requests, c.Resources.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			opts := helpers.PodResourcesOptions{ExcludeOverhead: true}
			errs = append(errs, itemErrors(item, helpers.PodRequests(pod, opts), helpers.PodLimits(pod, opts))...)
		}
	}
	return errs
}

func claimErrors(pvc *corev1.PersistentVolumeClaim, l *corev1.LimitRange) []error {
	var errs []error
	for _, item := range l.Spec.Limits {
		if item.Type != corev1.LimitTypePersistentVolumeClaim {
			continue
		}
		for _, name := range sortedNames(item.Min) {
			errs = appendError(errs, minError(item.Type, name, item.Min[name], pvc.Spec.Resources.Requests, nil))
		}
		for _, name := range sortedNames(item.Max) {
			errs = appendError(errs, maxRequestError(item.Type, name, item.Max[name], pvc.Spec.Resources.Requests))
		}
	}
	return errs
}

func itemErrors(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var errs []error
	for _, name := range sortedNames(item.Min) {
		errs = appendError(errs, minError(item.Type, name, item.Min[name], requests, limits))
	}
	for _, name := range sortedNames(item.Max) {
		errs = appendError(errs, maxError(item.Type, name, item.Max[name], requests, limits))
	}
	for _, name := range sortedNames(item.MaxLimitRequestRatio) {
		errs = appendError(errs, ratioError(item.Type, name, item.MaxLimitRequestRatio[name], requests, limits))
	}
	return errs
}

func appendError(errs []error, err error) []error {
	if err == nil {
		return errs
	}
	return append(errs, err)
}

func sortedNames(l corev1.ResourceList) []corev1.ResourceName {
	out := make([]corev1.ResourceName, 0, len(l))
	for n := range l {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func minError(kind corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	req, ok := requests[name]
	if !ok {
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", name, kind, bound.String())
	}
	if req.Cmp(bound) < 0 {
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", name, kind, bound.String(), req.String())
	}
	if lim, ok := limits[name]; ok && lim.Cmp(bound) < 0 {
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", name, kind, bound.String(), lim.String())
	}
	return nil
}

func maxRequestError(kind corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests corev1.ResourceList) error {
	req, ok := requests[name]
	if !ok {
		return fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", name, kind, bound.String())
	}
	if req.Cmp(bound) > 0 {
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, kind, bound.String(), req.String())
	}
	return nil
}

func maxError(kind corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	lim, ok := limits[name]
	if !ok {
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", name, kind, bound.String())
	}
	if lim.Cmp(bound) > 0 {
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", name, kind, bound.String(), lim.String())
	}
	if req, ok := requests[name]; ok && req.Cmp(bound) > 0 {
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, kind, bound.String(), req.String())
	}
	return nil
}

func ratioError(kind corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, requests, limits corev1.ResourceList) error {
	req, lim := requests[name], limits[name]
	if req.IsZero() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, kind, bound.String())
	}
	if lim.IsZero() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, kind, bound.String())
	}
	if ratio := lim.AsApproximateFloat64() / req.AsApproximateFloat64(); ratio > bound.AsApproximateFloat64() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, kind, bound.String(), ratio)
	}
	return nil
}
