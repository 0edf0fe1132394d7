package statefulset

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
)

// ensureClaims makes the volume claims of a number that aren't there.
func (r *reconciler) ensureClaims(ctx context.Context, set *appsv1.StatefulSet, n int) error {
	for _, want := range claims(set, n) {
		have, ok := r.claims.Get(want.Namespace, want.Name)
		if ok && have.DeletionTimestamp != nil {
			return fmt.Errorf("pvc %s is being deleted", want.Name)
		}
		if ok {
			continue
		}
		want.OwnerReferences = claimOwners(set, nil, false, want.OwnerReferences)
		_, err := client.PersistentVolumeClaims.Create(ctx, r.client, want)
		switch {
		case apierrors.IsAlreadyExists(err):
		case err != nil:
			r.events.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "Create Claim %s for Pod %s in StatefulSet %s failed error: %s", want.Name, podName(set, n), set.Name, err)
			return fmt.Errorf("failed to create PVC %s: %w", want.Name, err)
		default:
			r.events.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "Create Claim %s Pod %s in StatefulSet %s success", want.Name, podName(set, n), set.Name)
		}
	}
	return nil
}

// claimOwners returns the owners that a claim should have by the set's retention policy: the set, the pod that is about to go, or
// neither. Owners that are none of these stay.
func claimOwners(set *appsv1.StatefulSet, pod *corev1.Pod, condemned bool, have []metav1.OwnerReference) []metav1.OwnerReference {
	p := appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType, WhenScaled: appsv1.RetainPersistentVolumeClaimRetentionPolicyType}
	if set.Spec.PersistentVolumeClaimRetentionPolicy != nil {
		p = *set.Spec.PersistentVolumeClaimRetentionPolicy
	}
	out := slices.DeleteFunc(slices.Clone(have), func(o metav1.OwnerReference) bool {
		return o.Kind == gvk.Kind && o.Name == set.Name || o.Kind == "Pod" && pod != nil && o.Name == pod.Name
	})
	remove := appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	switch {
	case condemned && p.WhenScaled == remove:
		out = append(out, *metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod")))
	case p.WhenDeleted == remove:
		out = append(out, *metav1.NewControllerRef(set, gvk))
	}
	for i := range out {
		if out[i].Kind == "Pod" || out[i].Kind == gvk.Kind {
			out[i].BlockOwnerDeletion = nil
		}
	}
	return out
}

// retain brings the owners of a pod's claims in line with the policy.
func (r *reconciler) retain(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod, condemned bool) error {
	for _, c := range claims(set, ordinal(set, pod)) {
		have, ok := r.claims.Get(c.Namespace, c.Name)
		if !ok || have.DeletionTimestamp != nil {
			continue
		}
		want := claimOwners(set, pod, condemned, have.OwnerReferences)
		if slices.EqualFunc(want, have.OwnerReferences, func(a, b metav1.OwnerReference) bool { return a.UID == b.UID }) {
			continue
		}
		next := have.DeepCopy()
		next.OwnerReferences = want
		if _, err := client.PersistentVolumeClaims.Update(ctx, r.client, next); err != nil {
			return fmt.Errorf("set the owners of claim %s: %w", next.Name, err)
		}
	}
	return nil
}
