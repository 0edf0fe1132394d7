package resourceclaim

import (
	"context"
	"fmt"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
)

// reconcileClaim ends the reservations of pods that are done, the allocation that nobody needs, and the claim that was made for one of them.
func (r *reconciler) reconcileClaim(ctx context.Context, namespace, name string) error {
	claim, ok := r.claims.Get(namespace, name)
	if !ok {
		return nil
	}
	remaining := make([]resourcev1.ResourceClaimConsumerReference, 0, len(claim.Status.ReservedFor))
	for _, consumer := range claim.Status.ReservedFor {
		needed, err := r.needs(ctx, namespace, consumer)
		if err != nil {
			return err
		}
		if needed {
			remaining = append(remaining, consumer)
		}
	}
	if err := r.release(ctx, claim, remaining); err != nil {
		return err
	}
	if len(remaining) > 0 || claim.DeletionTimestamp != nil {
		return nil
	}
	return r.deleteUnused(ctx, claim)
}

// needs tells whether a consumer still has a right to its reservation.
func (r *reconciler) needs(ctx context.Context, namespace string, consumer resourcev1.ResourceClaimConsumerReference) (bool, error) {
	if consumer.APIGroup != "" || consumer.Resource != "pods" {
		return true, nil // Not ours to judge.
	}
	pod, there := r.pods.Get(namespace, consumer.Name)
	if !there {
		// It may be younger than what is known here.
		live, err := client.Pods.Get(ctx, r.client, namespace, consumer.Name)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return live.UID == consumer.UID, nil
	}
	return pod.UID == consumer.UID && !done(pod), nil
}

// release writes the reservations that remain. With the last of them goes the allocation.
func (r *reconciler) release(ctx context.Context, claim *resourcev1.ResourceClaim, remaining []resourcev1.ResourceClaimConsumerReference) error {
	ours := slices.Contains(claim.Finalizers, resourcev1.Finalizer)
	fewer := len(remaining) < len(claim.Status.ReservedFor)
	leaving := ours && claim.DeletionTimestamp != nil && len(remaining) == 0
	if !fewer && !leaving {
		return nil
	}
	changed := claim.DeepCopy()
	changed.Status.ReservedFor = remaining
	if len(remaining) == 0 && ours {
		changed.Status.Allocation = nil
		changed.Status.Devices = nil
	}
	if fewer || claim.Status.Allocation != nil {
		updated, err := client.ResourceClaims.UpdateStatus(ctx, r.client, changed)
		if err != nil {
			return fmt.Errorf("release claim %s/%s: %w", claim.Namespace, claim.Name, err)
		}
		changed = updated.DeepCopy()
	}
	if !ours || changed.Status.Allocation != nil {
		return nil
	}
	changed.Finalizers = slices.DeleteFunc(changed.Finalizers, func(f string) bool { return f == resourcev1.Finalizer })
	if _, err := client.ResourceClaims.Update(ctx, r.client, changed); err != nil {
		return fmt.Errorf("remove the finalizer of claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

// deleteUnused deletes a claim whose pod is done with it.
func (r *reconciler) deleteUnused(ctx context.Context, claim *resourcev1.ResourceClaim) error {
	name, uid := owner(claim)
	if name == "" {
		return nil
	}
	pod, there := r.pods.Get(claim.Namespace, name)
	if !there || pod.UID == uid && !done(pod) {
		return nil // The garbage collector sees to those whose pod is gone.
	}
	err := client.ResourceClaims.Delete(ctx, r.client, claim.Namespace, claim.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(claim.UID))})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete unused generated claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}
