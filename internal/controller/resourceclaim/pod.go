package resourceclaim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	dra "k8s.io/dynamic-resource-allocation/resourceclaim"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/store"
)

// fieldManager owns the names of generated claims in pods' statuses.
const fieldManager = "ResourceClaimController"

// reconcilePod makes the claims that a pod's templates ask for, and reserves those that the scheduler was not asked to.
func (r *reconciler) reconcilePod(ctx context.Context, namespace, name string) error {
	pod, ok := r.pods.Get(namespace, name)
	if !ok || pod.DeletionTimestamp != nil {
		return nil
	}
	made := map[string]string{}
	for i := range pod.Spec.ResourceClaims {
		claim := &pod.Spec.ResourceClaims[i]
		generated, err := r.ensure(ctx, pod, claim)
		if err != nil {
			r.events.Eventf(pod, corev1.EventTypeWarning, "FailedResourceClaimCreation", "PodResourceClaim %s: %v", claim.Name, err)
			return fmt.Errorf("pod %s/%s, PodResourceClaim %s: %w", namespace, name, claim.Name, err)
		}
		if generated != "" {
			made[claim.Name] = generated
		}
	}
	if len(made) > 0 {
		return r.writeNames(ctx, pod, made)
	}
	if pod.Spec.NodeName == "" || done(pod) {
		return nil
	}
	return r.reserve(ctx, pod)
}

// ensure returns the name of the claim that was generated for a pod, if its status doesn't tell it yet.
func (r *reconciler) ensure(ctx context.Context, pod *corev1.Pod, ref *corev1.PodResourceClaim) (string, error) {
	name, owned, err := dra.Name(pod, ref)
	switch {
	case errors.Is(err, dra.ErrClaimNotFound):
	case err != nil:
		return "", fmt.Errorf("checking for claim before creating it: %w", err)
	case name == nil:
		return "", nil // It was found out before that none is needed.
	default:
		claim, there := r.claims.Get(pod.Namespace, *name)
		if there && (!owned || dra.IsForPod(pod, claim, false) == nil) {
			return "", nil
		}
	}
	if ref.ResourceClaimTemplateName == nil {
		return "", nil // Somebody else makes it.
	}
	for _, claim := range r.claims.ByIndex(store.OwnerIndex, string(pod.UID)) {
		if claim.Annotations[resourcev1.PodResourceClaimAnnotation] == ref.Name {
			return claim.Name, nil
		}
	}
	template, there := r.templates.Get(pod.Namespace, *ref.ResourceClaimTemplateName)
	if !there {
		return "", fmt.Errorf("resource claim template %q: resourceclaimtemplate.resource.k8s.io %q not found", *ref.ResourceClaimTemplateName, *ref.ResourceClaimTemplateName)
	}
	claim := generate(pod, ref.Name, template)
	created, err := client.ResourceClaims.Create(ctx, r.client, claim)
	r.metrics.created(claim, err)
	if err != nil {
		return "", fmt.Errorf("create ResourceClaim %s: %w", claim.Name, err)
	}
	return created.Name, nil
}

// writeNames tells in a pod's status which claims were generated for it.
func (r *reconciler) writeNames(ctx context.Context, pod *corev1.Pod, made map[string]string) error {
	var statuses []corev1.PodResourceClaimStatus
	for i := range pod.Spec.ResourceClaims {
		ref := &pod.Spec.ResourceClaims[i]
		if name, ok := made[ref.Name]; ok {
			statuses = append(statuses, corev1.PodResourceClaimStatus{Name: ref.Name, ResourceClaimName: &name})
			continue
		}
		if ref.ResourceClaimTemplateName == nil {
			continue
		}
		for _, s := range pod.Status.ResourceClaimStatuses {
			if s.Name == ref.Name {
				statuses = append(statuses, s)
			}
		}
	}
	data, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": pod.Name, "namespace": pod.Namespace, "uid": pod.UID},
		"status":   map[string]any{"resourceClaimStatuses": statuses},
	})
	if err != nil {
		return err
	}
	_, err = client.Pods.Patch(ctx, r.client, pod.Namespace, pod.Name, "status", types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: fieldManager, Force: new(true)})
	if err != nil {
		return fmt.Errorf("update pod %s/%s ResourceClaimStatuses: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// reserve reserves the allocated claims of a pod that has its node: the scheduler does so itself where it is asked.
func (r *reconciler) reserve(ctx context.Context, pod *corev1.Pod) error {
	for i := range pod.Spec.ResourceClaims {
		name, owned, err := dra.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil {
			return err
		}
		if name == nil {
			continue
		}
		claim, there := r.claims.Get(pod.Namespace, *name)
		if !there {
			return nil
		}
		if owned {
			if err := dra.IsForPod(pod, claim, false); err != nil {
				return err
			}
		}
		if claim.Status.Allocation == nil || dra.IsReservedForPod(pod, claim, false) || !dra.CanBeReserved(claim) {
			continue
		}
		reserved := claim.DeepCopy()
		reserved.Status.ReservedFor = append(reserved.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
		if _, err := client.ResourceClaims.UpdateStatus(ctx, r.client, reserved); err != nil {
			return fmt.Errorf("reserve claim %s/%s: %w", claim.Namespace, claim.Name, err)
		}
	}
	return nil
}
