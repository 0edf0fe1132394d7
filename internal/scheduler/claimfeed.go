package scheduler

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"clipper.dev/clipper/internal/client"
)

// openClaimFeeds follows claims and the devices that there are for them.
func (s *scheduler) openClaimFeeds(ctx context.Context, served []client.KindInfo, add func(*feed, error) error) error {
	c := s.core
	for _, err := range []error{
		add(newFeed(ctx, s, served, client.ResourceClaims, func(old, new *resourcev1.ResourceClaim, now time.Time) {
			o := either(old, new)
			c.setClaim(claimKey(o.Namespace, o.Name), new, now)
		})),
		add(newFeed(ctx, s, served, client.ResourceSlices, func(old, new *resourcev1.ResourceSlice, now time.Time) {
			c.cluster.devices.SetSlice(either(old, new).Name, new)
			c.queue.happened(claimsChanged, now)
		})),
		add(newFeed(ctx, s, served, client.DeviceClasses, func(old, new *resourcev1.DeviceClass, now time.Time) {
			c.setDeviceClass(either(old, new).Name, new, now)
		})),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// setDeviceClass tells of a new or changed class; nil is one that is gone.
func (s *core) setDeviceClass(name string, class *resourcev1.DeviceClass, now time.Time) {
	s.cluster.devices.SetClass(name, class)
	for key := range s.classes {
		s.forget(key) // Extended resources may come from devices now, or no longer.
	}
	s.queue.happened(claimsChanged|nodeAllocatable, now)
}

// setClaim tells of a new or changed claim; nil is one that is gone.
func (s *core) setClaim(key string, claim *resourcev1.ResourceClaim, now time.Time) {
	freed := s.cluster.devices.SetClaim(key, claim)
	if claim != nil && claim.Annotations[resourcev1.ExtendedResourceClaimAnnotation] == "true" {
		if ref := metav1.GetControllerOf(claim); ref != nil && claim.Status.Allocation != nil {
			s.cluster.devices.SetClaim(extendedKey(ref.UID), nil) // It has a name now.
		}
	}
	for uid, p := range s.held {
		if waiting, ok := s.queue.get(uid); !ok || waiting != p {
			delete(s.held, uid)
		} else if p.held = s.cluster.holds(p.pod); !p.held {
			delete(s.held, uid)
			s.queue.add(p, now)
		}
	}
	if freed {
		s.queue.happened(claimsChanged, now)
		return
	}
	s.queue.happenedTo(claimsChanged, now, func(p *podInfo) bool { return claim != nil && uses(p.pod, claim) })
}

func uses(pod *corev1.Pod, claim *resourcev1.ResourceClaim) bool {
	if pod.Namespace != claim.Namespace {
		return false
	}
	return slices.ContainsFunc(pod.Spec.ResourceClaims, func(ref corev1.PodResourceClaim) bool {
		name, _, err := resourceclaim.Name(pod, &ref)
		return err == nil && name != nil && *name == claim.Name
	}) || ownedBy(claim, pod.UID)
}

// holds tells whether a pod's claims are not there yet, so that it needn't be tried.
func (c *cluster) holds(pod *corev1.Pod) bool {
	return len(pod.Spec.ResourceClaims) > 0 && c.eachClaim(pod, func(*resourcev1.ResourceClaim) {}) != nil
}
