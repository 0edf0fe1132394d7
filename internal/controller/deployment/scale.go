package deployment

import (
	"cmp"
	"math"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// resized tells whether somebody has changed the Deployment's size since its sets were last scaled.
func (r *rollout) resized() bool {
	for _, set := range activeSets(r.all()) {
		if desired, ok := notedSize(set, DesiredReplicasAnnotation); ok && desired != *r.d.Spec.Replicas {
			return true
		}
	}
	return false
}

// scale gives the sets the sizes that follow from the Deployment's, without moving the rollout on.
func (r *rollout) scale() {
	if set := r.only(); set != nil {
		r.resize(set, *r.d.Spec.Replicas)
		return
	}
	if r.saturated() {
		for _, set := range activeSets(r.old) {
			r.resize(set, 0)
		}
		return
	}
	if r.d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		r.scaleProportionally()
	}
}

// only returns the one set with pods or, if none has any, the newest. It returns nil if several have pods.
func (r *rollout) only() *appsv1.ReplicaSet {
	active := activeSets(r.all())
	switch {
	case len(active) == 1:
		return active[0]
	case len(active) > 1:
		return nil
	case r.new != nil:
		return r.new
	case len(r.old) > 0:
		return slices.MaxFunc(r.old, byCreation)
	}
	return nil
}

// saturated tells whether the new set serves the Deployment's full size.
func (r *rollout) saturated() bool {
	if r.new == nil {
		return false
	}
	want := *r.d.Spec.Replicas
	desired, ok := notedSize(r.new, DesiredReplicasAnnotation)
	return ok && *r.new.Spec.Replicas == want && desired == want && r.new.Status.AvailableReplicas == want
}

// scaleProportionally shares the change of size out among the sets with pods, by their sizes; the largest takes what remains.
func (r *rollout) scaleProportionally() {
	sets := activeSets(r.all())
	allowed := int32(0)
	if *r.d.Spec.Replicas > 0 {
		allowed = *r.d.Spec.Replicas + r.maxSurge()
	}
	add := allowed - specReplicas(sets...)
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		age := byCreation(a, b)
		if add > 0 {
			age = -age
		}
		return cmp.Or(cmp.Compare(*b.Spec.Replicas, *a.Spec.Replicas), age)
	})
	sizes := make([]int32, len(sets))
	added := int32(0)
	for i, set := range sets {
		share := r.share(set, add, added)
		sizes[i] = *set.Spec.Replicas + share
		added += share
	}
	if len(sets) > 0 {
		sizes[0] = max(sizes[0]+add-added, 0)
	}
	for i, set := range sets {
		r.resizeAlways(set, sizes[i])
	}
}

// share is how many of the replicas to add fall to a set, when so many have been shared out already.
func (r *rollout) share(set *appsv1.ReplicaSet, add, added int32) int32 {
	if add == 0 || add == added {
		return 0
	}
	fraction := r.fraction(set)
	if add > 0 {
		return min(fraction, add-added)
	}
	return max(fraction, add-added)
}

func (r *rollout) fraction(set *appsv1.ReplicaSet) int32 {
	size := *set.Spec.Replicas
	if *r.d.Spec.Replicas == 0 {
		return -size
	}
	before, ok := notedSize(set, MaxReplicasAnnotation)
	if !ok || before == 0 {
		before = r.d.Status.Replicas
	}
	if before == 0 {
		return 0
	}
	most := *r.d.Spec.Replicas + r.maxSurge()
	return int32(math.Round(float64(size)*float64(most)/float64(before))) - size
}
