package deployment

import (
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// state is what a decision is made from. Read-only.
type state struct {
	deployment *appsv1.Deployment
	sets       []*appsv1.ReplicaSet // those that belong to it
	// running tells whether pods of sets other than the given one have not ended yet. Only Recreate asks.
	running func(except types.UID) bool
	now     time.Time
}

// plan is what to write, in this order.
type plan struct {
	create *appsv1.ReplicaSet
	update []resize
	delete []*appsv1.ReplicaSet
	// deployment is the Deployment as it shall be: its status, and the annotation with its revision.
	deployment *appsv1.Deployment
	// again is when to look again although nothing has changed: when the progress deadline will have passed.
	again time.Duration
}

// resize is a ReplicaSet to write, whose size was from before.
type resize struct {
	set  *appsv1.ReplicaSet
	from int32
}

// rollout is a decision in the making. Its sets are copies that the steps change.
type rollout struct {
	state
	d       *appsv1.Deployment
	new     *appsv1.ReplicaSet // nil as long as there is none
	old     []*appsv1.ReplicaSet
	created bool // new isn't stored yet
	delete  []*appsv1.ReplicaSet
}

// makePlan decides the next step of a Deployment.
func makePlan(s state) plan {
	r := newRollout(s)
	var again time.Duration
	switch {
	case s.deployment.DeletionTimestamp != nil:
		r.d.Status = r.status()
	case r.pauseChanged():
		// The condition alone is written; its own change brings the Deployment back.
	case r.d.Spec.Paused:
		r.findNew(false)
		r.scale()
		r.cleanUp()
		r.d.Status = r.status()
	case r.resized():
		r.findNew(false)
		r.scale()
		r.d.Status = r.status()
	case r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		r.recreate()
		again = r.rolloutStatus()
	default:
		r.findNew(true)
		if !r.growNew() && !r.shrinkOld() && r.complete(&r.d.Status) {
			r.cleanUp()
		}
		again = r.rolloutStatus()
	}
	return r.plan(again)
}

func newRollout(s state) *rollout {
	r := &rollout{state: s, d: s.deployment.DeepCopy()}
	existing := slices.Clone(s.sets)
	slices.SortFunc(existing, byCreation)
	for _, set := range existing {
		set = set.DeepCopy()
		if r.new == nil && sameTemplate(&r.d.Spec.Template, &set.Spec.Template) {
			r.new = set
			continue
		}
		r.old = append(r.old, set)
	}
	return r
}

// pauseChanged notes in the Progressing condition when the Deployment was paused or resumed.
func (r *rollout) pauseChanged() bool {
	if r.d.Spec.ProgressDeadlineSeconds == nil {
		return false
	}
	c := condition(&r.d.Status, appsv1.DeploymentProgressing)
	if c != nil && c.Reason == reasonTimedOut {
		return false
	}
	paused := c != nil && c.Reason == reasonPaused
	switch {
	case r.d.Spec.Paused && !paused:
		r.setCondition(&r.d.Status, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !r.d.Spec.Paused && paused:
		r.setCondition(&r.d.Status, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed")
	default:
		return false
	}
	return true
}

// recreate ends all old pods before it starts new ones.
func (r *rollout) recreate() {
	r.findNew(false)
	stopping := false
	for _, set := range r.old {
		if *set.Spec.Replicas > 0 {
			r.resize(set, 0)
			stopping = true
		}
	}
	if stopping || r.oldRunning() {
		return
	}
	if r.new == nil {
		r.findNew(true)
	}
	if r.new != nil {
		r.resize(r.new, *r.d.Spec.Replicas)
	}
	if r.complete(&r.d.Status) {
		r.cleanUp()
	}
}

func (r *rollout) oldRunning() bool {
	for _, set := range r.old {
		if set.Status.Replicas > 0 {
			return true
		}
	}
	var except types.UID
	if r.new != nil {
		except = r.new.UID
	}
	return r.running(except)
}

// cleanUp deletes the oldest of the sets that the revision history has no place for.
func (r *rollout) cleanUp() {
	if r.d.Spec.RevisionHistoryLimit == nil {
		return
	}
	var kept []*appsv1.ReplicaSet
	for _, set := range r.old {
		if set.DeletionTimestamp == nil {
			kept = append(kept, set)
		}
	}
	excess := len(kept) - int(*r.d.Spec.RevisionHistoryLimit)
	if excess <= 0 {
		return
	}
	slices.SortFunc(kept, byRevision)
	for _, set := range kept[:excess] {
		if set.Status.Replicas == 0 && *set.Spec.Replicas == 0 && set.Generation <= set.Status.ObservedGeneration {
			r.delete = append(r.delete, set)
		}
	}
}

// plan compares the copies with what is there.
func (r *rollout) plan(again time.Duration) plan {
	p := plan{deployment: r.d, delete: r.delete, again: again}
	if r.created {
		p.create = r.new
	}
	before := map[types.UID]*appsv1.ReplicaSet{}
	for _, set := range r.sets {
		before[set.UID] = set
	}
	for _, set := range r.all() {
		old := before[set.UID]
		if old == nil {
			continue
		}
		if *old.Spec.Replicas != *set.Spec.Replicas || old.Spec.MinReadySeconds != set.Spec.MinReadySeconds || !maps.Equal(old.Annotations, set.Annotations) {
			p.update = append(p.update, resize{set, *old.Spec.Replicas})
		}
	}
	return p
}

// changed tells whether a Deployment's status or revision differs from what is stored.
func changed(old, now *appsv1.Deployment) bool {
	return old.Annotations[RevisionAnnotation] != now.Annotations[RevisionAnnotation] || !apiequality.Semantic.DeepEqual(old.Status, now.Status)
}

// all returns the old sets and the new one.
func (r *rollout) all() []*appsv1.ReplicaSet {
	if r.new == nil {
		return r.old
	}
	return append(slices.Clone(r.old), r.new)
}

// resize gives a set another size, and notes the Deployment's with it.
func (r *rollout) resize(set *appsv1.ReplicaSet, size int32) {
	if *set.Spec.Replicas != size {
		r.resizeAlways(set, size)
	}
}

func (r *rollout) resizeAlways(set *appsv1.ReplicaSet, size int32) {
	*set.Spec.Replicas = size
	noteSize(set, *r.d.Spec.Replicas, *r.d.Spec.Replicas+r.maxSurge())
}

func specReplicas(sets ...*appsv1.ReplicaSet) (n int32) {
	for _, set := range sets {
		if set != nil {
			n += *set.Spec.Replicas
		}
	}
	return n
}

func activeSets(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	for _, set := range sets {
		if *set.Spec.Replicas > 0 {
			out = append(out, set)
		}
	}
	return out
}

func controllerRef(d *appsv1.Deployment) metav1.OwnerReference {
	return *metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))
}
