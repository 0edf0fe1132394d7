package plugins

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	helpers "k8s.io/component-helpers/resource"

	"clipper.dev/clipper/internal/admission"
)

// PodResizeValidator lets no bound pod grow beyond what its node could ever give.
type PodResizeValidator struct {
	views *views
}

var _ admission.Validator = (*PodResizeValidator)(nil)

// The causes that refusals carry.
const (
	causeNodeCapacity        metav1.CauseType = "NodeCapacity"
	causeUnsupportedPlatform metav1.CauseType = "UnsupportedPlatform"
)

// Name implements admission.Plugin.
func (*PodResizeValidator) Name() string { return "PodResizeValidator" }

// Handles implements admission.Selective.
func (*PodResizeValidator) Handles(op admission.Operation) bool {
	return op == admission.Update
}

// Validate implements admission.Validator.
func (p *PodResizeValidator) Validate(_ context.Context, r *admission.Request) error {
	if !concerns(r, "", "pods", "resize") || r.Operation != admission.Update {
		return nil
	}
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("expected a pod but got a %T", r.Object))
	}
	old, ok := r.OldObject.(*corev1.Pod)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("expected an old pod but got a %T", r.OldObject))
	}
	if pod.Spec.NodeName == "" || pod.Generation == old.Generation {
		return nil
	}
	node, ok := p.views.nodes.Get("", pod.Spec.NodeName)
	if !ok {
		return forbidf(r, "node %q not found", pod.Spec.NodeName)
	}
	if os, ok := node.Labels[corev1.LabelOSStable]; ok && os != "linux" {
		return refuseResize(r, fmt.Errorf("pod resize is only supported on linux nodes, node %q is %q", node.Name, os), causeUnsupportedPlatform)
	}
	if lack := lacking(pod, node.Status.Allocatable); lack != "" {
		return refuseResize(r, fmt.Errorf("node didn't have enough allocatable resources: %s", lack), causeNodeCapacity)
	}
	return nil
}

// lacking says what a pod requests beyond what a node has in all, or "".
func lacking(pod *corev1.Pod, allocatable corev1.ResourceList) string {
	requests := helpers.PodRequests(pod, helpers.PodResourcesOptions{})
	var parts []string
	if cpu := requests.Cpu(); cpu.Cmp(*allocatable.Cpu()) > 0 {
		parts = append(parts, fmt.Sprintf("cpu, requested: %d, allocatable: %d", cpu.MilliValue(), allocatable.Cpu().MilliValue()))
	}
	if memory := requests.Memory(); memory.Cmp(*allocatable.Memory()) > 0 {
		parts = append(parts, fmt.Sprintf("memory, requested: %d, allocatable: %d", memory.Value(), allocatable.Memory().Value()))
	}
	return strings.Join(parts, "; ")
}

func refuseResize(r *admission.Request, err error, cause metav1.CauseType) error {
	refusal := forbid(r, err)
	var status *apierrors.StatusError
	if errors.As(refusal, &status) {
		status.ErrStatus.Details.Causes = append(status.ErrStatus.Details.Causes, metav1.StatusCause{Type: cause})
	}
	return refusal
}
