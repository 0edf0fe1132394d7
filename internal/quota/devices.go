package quota

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
)

// Devices are what the usage of a claim for devices depends on beside the claim: which extended resources classes stand for, and what the
// pod that a claim was made for counts itself. The zero value knows of none.
type Devices struct {
	Classes client.TypedView[*resourcev1.DeviceClass]
	Pods    client.TypedView[*corev1.Pod]
	Claims  client.TypedView[*resourcev1.ResourceClaim]
}

// OpenDevices follows those of a cluster until ctx ends.
func OpenDevices(ctx context.Context, c client.Client) (d Devices, err error) {
	served := c.Kinds(ctx, nil)
	var errs [3]error
	d.Classes, errs[0] = client.ViewIfServed(ctx, c, served, client.DeviceClasses)
	d.Pods, errs[1] = client.ViewIfServed(ctx, c, served, client.Pods)
	d.Claims, errs[2] = client.ViewIfServed(ctx, c, served, client.ResourceClaims)
	return d, errors.Join(errs[:]...)
}

// known tells whether an extended resource, explicit or implicit, is one of a class.
func (d Devices) known(resource string) bool {
	if d.Classes.View == nil {
		return false
	}
	for _, c := range d.Classes.List("", nil) {
		if resourcev1.ResourceDeviceClassPrefix+c.Name == resource || c.Spec.ExtendedResourceName != nil && *c.Spec.ExtendedResourceName == resource {
			return true
		}
	}
	return false
}

// extendedName is the extended resource that a class stands for; "" if it says none.
func (d Devices) extendedName(class string) string {
	if d.Classes.View == nil {
		return ""
	}
	if c, ok := d.Classes.Get("", class); ok && c.Spec.ExtendedResourceName != nil {
		return *c.Spec.ExtendedResourceName
	}
	return ""
}

// podOf returns the pod whose extended resources a claim was made for, if the claim may pass for that one: anybody could write the annotation.
func (d Devices) podOf(claim *resourcev1.ResourceClaim) *corev1.Pod {
	owner := metav1.GetControllerOfNoCopy(claim)
	if claim.Annotations[resourcev1.ExtendedResourceClaimAnnotation] != "true" || owner == nil || owner.Kind != "Pod" || owner.APIVersion != "v1" || d.Pods.View == nil {
		return nil
	}
	pod, ok := d.Pods.Get(claim.Namespace, owner.Name)
	if !ok || pod.UID != owner.UID {
		return nil
	}
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
		if s.ResourceClaimName != claim.Name {
			return nil
		}
		return pod
	}
	for _, other := range d.Claims.List(claim.Namespace, nil) {
		if ref := metav1.GetControllerOfNoCopy(other); other.Annotations[resourcev1.ExtendedResourceClaimAnnotation] != "true" || ref == nil || ref.UID != pod.UID {
			continue
		}
		if age := other.CreationTimestamp.Time.Compare(claim.CreationTimestamp.Time); age < 0 || age == 0 && other.Name < claim.Name {
			return nil // the pod's is the first
		}
	}
	return pod
}
