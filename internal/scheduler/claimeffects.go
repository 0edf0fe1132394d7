package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
)

// claimAttempts bounds how often a claim is read anew because somebody else has written it.
const claimAttempts = 5

// writeClaims gives a pod's claims their devices and reserves them for it; false if that failed, which is reported.
func (e *effects) writeClaims(ctx context.Context, d decision) bool {
	pod := d.pod.pod
	for i := range d.claims.steps {
		step := &d.claims.steps[i]
		err := e.writeClaim(ctx, pod, d.claims, step)
		if err == nil {
			continue
		}
		if ctx.Err() == nil {
			e.cfg.Logger.Warn("preparing a pod's claims failed", "pod", d.pod.fullName(), "node", d.node, "error", err)
			e.cfg.Events.Eventf(pod, corev1.EventTypeWarning, "FailedScheduling", "running PreBind plugin %q: %v", dynamicResourcesName, err)
		}
		e.releaseClaims(ctx, d)
		e.failed <- d.pod
		return false
	}
	if d.claims.waits && len(d.claims.steps) > 0 {
		e.cfg.Events.Eventf(pod, corev1.EventTypeNormal, "BindingConditionsPending", "waiting for binding conditions for device on node %s", d.node)
	}
	return true
}

func (e *effects) writeClaim(ctx context.Context, pod *corev1.Pod, plan *claimPlan, step *claimStep) error {
	extended := plan.extended != nil && step.claim.Name == ""
	if extended {
		created, err := client.ResourceClaims.Create(ctx, e.cfg.Client, step.claim)
		e.metrics.claimCreated(err)
		if err != nil {
			return fmt.Errorf("create claim for extended resources %s/%s: %w", step.claim.Namespace, step.claim.GenerateName, err)
		}
		step.claim = created
	}
	var err error
	for range claimAttempts {
		if err = e.reserveClaim(ctx, pod, step); !apierrors.IsConflict(err) {
			break
		}
		fresh, gerr := client.ResourceClaims.Get(ctx, e.cfg.Client, step.claim.Namespace, step.claim.Name)
		if gerr != nil {
			return fmt.Errorf("get updated claim %s/%s after conflict: %w", step.claim.Namespace, step.claim.Name, gerr)
		}
		step.claim = fresh
	}
	if err != nil || !extended {
		return err
	}
	status := map[string]any{"extendedResourceClaimStatus": corev1.PodExtendedResourceClaimStatus{ResourceClaimName: step.claim.Name, RequestMappings: plan.extended.mappings}}
	if err := e.patchStatus(ctx, pod, status); err != nil {
		return fmt.Errorf("update pod %s/%s ExtendedResourceClaimStatus: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// reserveClaim writes one claim, as it is in step.
func (e *effects) reserveClaim(ctx context.Context, pod *corev1.Pod, step *claimStep) error {
	claim := step.claim.DeepCopy()
	switch {
	case claim.DeletionTimestamp != nil:
		return fmt.Errorf("claim %s/%s got deleted in the meantime", claim.Namespace, claim.Name)
	case step.allocation != nil && claim.Status.Allocation != nil:
		return fmt.Errorf("claim %s/%s got allocated elsewhere in the meantime", claim.Namespace, claim.Name)
	case step.allocation == nil && claim.Status.Allocation == nil:
		return fmt.Errorf("claim %s/%s got deallocated elsewhere in the meantime", claim.Namespace, claim.Name)
	}
	did := "add reservation to claim"
	if step.allocation != nil {
		did = "add allocation and reservation to claim"
		if !slices.Contains(claim.Finalizers, resourcev1.Finalizer) {
			claim.Finalizers = append(claim.Finalizers, resourcev1.Finalizer)
			updated, err := client.ResourceClaims.Update(ctx, e.cfg.Client, claim)
			if err != nil {
				return fmt.Errorf("add finalizer to claim %s/%s: %w", claim.Namespace, claim.Name, err)
			}
			claim = updated.DeepCopy()
		}
		claim.Status.Allocation = step.allocation.DeepCopy()
	}
	if claim.Status.Allocation.AllocationTimestamp == nil {
		claim.Status.Allocation.AllocationTimestamp = &metav1.Time{Time: time.Now()}
	}
	claim.Status.ReservedFor = append(claim.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
	updated, err := client.ResourceClaims.UpdateStatus(ctx, e.cfg.Client, claim)
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", did, claim.Namespace, claim.Name, err)
	}
	step.claim = updated
	return nil
}

// releaseClaims ends a pod's reservations of claims that were written for a binding which didn't come about.
func (e *effects) releaseClaims(ctx context.Context, d decision) {
	pod := d.pod.pod
	for i, step := range d.claims.steps {
		var err error
		switch {
		case step.claim.Name == "":
		case d.claims.extended != nil && i == len(d.claims.steps)-1:
			err = e.removeClaim(ctx, step.claim)
		case slices.ContainsFunc(step.claim.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == pod.UID }):
			patch, merr := json.Marshal(map[string]any{
				"metadata": map[string]any{"uid": step.claim.UID},
				"status":   map[string]any{"reservedFor": []any{map[string]any{"$patch": "delete", "uid": pod.UID}}},
			})
			_, perr := client.ResourceClaims.Patch(ctx, e.cfg.Client, step.claim.Namespace, step.claim.Name, "status", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			err = errors.Join(merr, perr)
		}
		if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			e.cfg.Logger.Warn("releasing a pod's claim failed", "pod", d.pod.fullName(), "claim", step.claim.Name, "error", err)
		}
	}
}

// removeClaim deletes the claim of a pod's extended resources.
func (e *effects) removeClaim(ctx context.Context, claim *resourcev1.ResourceClaim) error {
	fresh, err := client.ResourceClaims.Get(ctx, e.cfg.Client, claim.Namespace, claim.Name)
	if err != nil {
		return err
	}
	fresh = fresh.DeepCopy()
	fresh.Finalizers = slices.DeleteFunc(fresh.Finalizers, func(f string) bool { return f == resourcev1.Finalizer })
	if _, err := client.ResourceClaims.Update(ctx, e.cfg.Client, fresh); err != nil {
		return err
	}
	return client.ResourceClaims.Delete(ctx, e.cfg.Client, claim.Namespace, claim.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(claim.UID))})
}

// freeClaims takes back devices that nobody uses and that keep a pod from its node.
func (e *effects) freeClaims(ctx context.Context, d decision) {
	var err error
	switch {
	case d.release.deallocate != nil:
		claim := d.release.deallocate.DeepCopy()
		claim.Status.ReservedFor, claim.Status.Allocation, claim.Status.Devices = nil, nil, nil
		_, err = client.ResourceClaims.UpdateStatus(ctx, e.cfg.Client, claim)
	case d.release.remove != nil:
		err = e.removeClaim(ctx, d.release.remove)
	}
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
		e.cfg.Logger.Warn("freeing a claim's devices failed", "pod", d.pod.fullName(), "error", err)
	}
}
