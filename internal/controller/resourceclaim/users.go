package resourceclaim

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	dra "k8s.io/dynamic-resource-allocation/resourceclaim"

	"clipper.dev/clipper/internal/controller"
)

// users knows which pods name which claims and templates. Its methods may be called concurrently.
type users struct {
	mu         sync.Mutex
	byClaim    map[controller.Key]map[controller.Key]bool
	byTemplate map[controller.Key]map[controller.Key]bool
}

func newUsers() users {
	return users{byClaim: map[controller.Key]map[controller.Key]bool{}, byTemplate: map[controller.Key]map[controller.Key]bool{}}
}

// update replaces what is known of a pod; either may be nil.
func (u *users) update(before, after *corev1.Pod) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if before != nil {
		u.each(before, func(m map[controller.Key]map[controller.Key]bool, of, pod controller.Key) {
			if delete(m[of], pod); len(m[of]) == 0 {
				delete(m, of)
			}
		})
	}
	if after != nil {
		u.each(after, func(m map[controller.Key]map[controller.Key]bool, of, pod controller.Key) {
			if m[of] == nil {
				m[of] = map[controller.Key]bool{}
			}
			m[of][pod] = true
		})
	}
}

func (u *users) each(pod *corev1.Pod, do func(m map[controller.Key]map[controller.Key]bool, of, pod controller.Key)) {
	key := podKey(pod.Namespace, pod.Name)
	for _, name := range claimNames(pod) {
		do(u.byClaim, controller.Key{Namespace: pod.Namespace, Name: name}, key)
	}
	for i := range pod.Spec.ResourceClaims {
		if template := pod.Spec.ResourceClaims[i].ResourceClaimTemplateName; template != nil {
			do(u.byTemplate, controller.Key{Namespace: pod.Namespace, Name: *template}, key)
		}
	}
}

func (u *users) ofClaim(claim controller.Key) []controller.Key { return u.of(u.byClaim, claim) }

func (u *users) ofTemplate(template controller.Key) []controller.Key {
	return u.of(u.byTemplate, template)
}

func (u *users) of(m map[controller.Key]map[controller.Key]bool, key controller.Key) []controller.Key {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(m[key]))
}

// claimNames are the names of the claims that a pod uses, as far as they are known.
func claimNames(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Spec.ResourceClaims {
		if name, _, err := dra.Name(pod, &pod.Spec.ResourceClaims[i]); err == nil && name != nil {
			names = append(names, *name)
		}
	}
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
		names = append(names, s.ResourceClaimName)
	}
	return names
}
