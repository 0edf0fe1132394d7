package deployment

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// fenceposts resolves maxSurge and maxUnavailable: a share is rounded up for the first and down for the second, and
// where both came out as 0 one may be unavailable, else nothing could move.
func (r *rollout) fenceposts() (surge, unavailable int32) {
	rolling := r.d.Spec.Strategy.RollingUpdate
	if r.d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || rolling == nil {
		return 0, 0
	}
	share := func(v *intstr.IntOrString, up bool) int32 {
		if v == nil {
			return 0
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(v, int(*r.d.Spec.Replicas), up)
		if err != nil {
			return 0 // validation lets no such value in
		}
		return int32(n)
	}
	surge, unavailable = share(rolling.MaxSurge, true), share(rolling.MaxUnavailable, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

func (r *rollout) maxSurge() int32 {
	surge, _ := r.fenceposts()
	return surge
}

func (r *rollout) maxUnavailable() int32 {
	if *r.d.Spec.Replicas == 0 {
		return 0
	}
	_, unavailable := r.fenceposts()
	return min(unavailable, *r.d.Spec.Replicas)
}

// newSize is how large the new set may become now.
func (r *rollout) newSize() int32 {
	size, want := *r.new.Spec.Replicas, *r.d.Spec.Replicas
	if r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return want
	}
	room := want + r.maxSurge() - specReplicas(r.all()...)
	if room <= 0 {
		return size
	}
	return size + min(room, want-size)
}

// growNew scales the new set as far as the surge allows, and reports whether it did.
func (r *rollout) growNew() bool {
	if r.created {
		return false // it was made at its size
	}
	size, want := *r.new.Spec.Replicas, *r.d.Spec.Replicas
	target := want
	if size < want {
		target = r.newSize()
	}
	r.resize(r.new, target)
	return target != size
}

// shrinkOld scales the old sets down as far as the pods that are available allow, and reports whether it did: first pods that aren't
// available anyway, then others in exchange for new ones.
func (r *rollout) shrinkOld() bool {
	if specReplicas(r.old...) == 0 {
		return false
	}
	least := *r.d.Spec.Replicas - r.maxUnavailable()
	newUnavailable := *r.new.Spec.Replicas - surelyAvailable(r.new)
	budget := specReplicas(r.all()...) - least - newUnavailable
	if budget <= 0 {
		return false
	}
	return r.dropUnhealthy(budget)+r.dropHealthy(least) > 0
}

// dropUnhealthy gives up to budget old pods up that aren't available. r.old is in the order of creation.
func (r *rollout) dropUnhealthy(budget int32) (dropped int32) {
	for _, set := range r.old {
		size := *set.Spec.Replicas
		n := min(budget-dropped, size-set.Status.AvailableReplicas)
		if n <= 0 {
			continue
		}
		r.resize(set, size-n)
		dropped += n
	}
	return dropped
}

// dropHealthy gives old pods up that there are more of than at least must be available.
func (r *rollout) dropHealthy(least int32) (dropped int32) {
	available := int32(0)
	for _, set := range r.all() {
		available += surelyAvailable(set)
	}
	for _, set := range r.old {
		size := *set.Spec.Replicas
		n := min(size, available-least-dropped)
		if n <= 0 {
			continue
		}
		r.resize(set, size-n)
		dropped += n
	}
	return dropped
}

// surelyAvailable is how many of a set's pods will remain available: while it shrinks its status still counts those that go.
func surelyAvailable(set *appsv1.ReplicaSet) int32 {
	return min(set.Status.AvailableReplicas, *set.Spec.Replicas)
}
