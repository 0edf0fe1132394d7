package deployment

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/dump"
)

// Annotations of Deployments and ReplicaSets.
const (
	RevisionAnnotation        = "deployment.kubernetes.io/revision"
	RevisionHistoryAnnotation = "deployment.kubernetes.io/revision-history"
	DesiredReplicasAnnotation = "deployment.kubernetes.io/desired-replicas"
	MaxReplicasAnnotation     = "deployment.kubernetes.io/max-replicas"
)

const (
	// maxHistoryLength bounds the revision history annotation, in bytes.
	maxHistoryLength = 2000
	// rollbackAnnotation belonged to a kind of rollback that is no longer served.
	rollbackAnnotation = "deprecated.deployment.rollback.rollback-to"
)

// ownAnnotations are not passed on from a Deployment to its ReplicaSets.
var ownAnnotations = map[string]bool{
	corev1.LastAppliedConfigAnnotation: true,
	RevisionAnnotation:                 true,
	RevisionHistoryAnnotation:          true,
	DesiredReplicasAnnotation:          true,
	MaxReplicasAnnotation:              true,
	rollbackAnnotation:                 true,
}

// findNew brings the set of the current template up to date, and makes one if there is none and create says so.
func (r *rollout) findNew(create bool) {
	var last int64
	for _, set := range r.old {
		last = max(last, revisionOf(set))
	}
	switch {
	case r.new != nil:
		r.annotate(r.new, last+1)
		r.new.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
		r.setRevision(r.new.Annotations[RevisionAnnotation])
		if r.d.Spec.ProgressDeadlineSeconds != nil && condition(&r.d.Status, appsv1.DeploymentProgressing) == nil {
			r.setCondition(&r.d.Status, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonFound, fmt.Sprintf("Found new replica set %q", r.new.Name))
		}
	case create:
		r.makeNew(last + 1)
	}
}

// makeNew makes the set of the current template.
func (r *rollout) makeNew(revision int64) {
	template := r.d.Spec.Template.DeepCopy()
	hash := templateHash(template, r.d.Status.CollisionCount)
	labels := maps.Clone(template.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	template.Labels = labels
	selector := r.d.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = map[string]string{}
	}
	selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.d.Namespace, Name: setName(r.d.Name, hash), Labels: maps.Clone(labels),
			OwnerReferences: []metav1.OwnerReference{controllerRef(r.d)}},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32), MinReadySeconds: r.d.Spec.MinReadySeconds, Selector: selector, Template: *template},
	}
	r.new, r.created = set, true
	*set.Spec.Replicas = r.newSize()
	r.annotate(set, revision)
	noteSize(set, *r.d.Spec.Replicas, *r.d.Spec.Replicas+r.maxSurge())
	r.setRevision(set.Annotations[RevisionAnnotation])
	if r.d.Spec.ProgressDeadlineSeconds != nil {
		r.setCondition(&r.d.Status, appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonCreated, fmt.Sprintf("Created new replica set %q", set.Name))
	}
}

func (r *rollout) setRevision(revision string) {
	if r.d.Annotations == nil {
		r.d.Annotations = map[string]string{}
	}
	r.d.Annotations[RevisionAnnotation] = revision
}

// annotate passes the Deployment's annotations on to its new set and numbers it. A set that is rolled back to gets a new
// number, and remembers the former ones.
func (r *rollout) annotate(set *appsv1.ReplicaSet, revision int64) {
	if set.Annotations == nil {
		set.Annotations = map[string]string{}
	}
	for k, v := range r.d.Annotations {
		if !ownAnnotations[k] {
			set.Annotations[k] = v
		}
	}
	former, numbered := set.Annotations[RevisionAnnotation]
	number, err := strconv.ParseInt(cmp.Or(former, "0"), 10, 64)
	if err != nil || number >= revision {
		return
	}
	set.Annotations[RevisionAnnotation] = strconv.FormatInt(revision, 10)
	if numbered {
		if history, ok := appendHistory(set.Annotations[RevisionHistoryAnnotation], former); ok {
			set.Annotations[RevisionHistoryAnnotation] = history
		}
	}
}

// appendHistory adds a revision to the list and drops the oldest to keep it short.
func appendHistory(history, revision string) (string, bool) {
	if history == "" {
		return revision, true
	}
	list := strings.Split(history, ",")
	length := len(history) + len(revision) + 1
	for length > maxHistoryLength && len(list) > 0 {
		length -= len(list[0]) + 1
		list = list[1:]
	}
	if length > maxHistoryLength {
		return "", false
	}
	return strings.Join(append(list, revision), ","), true
}

// noteSize writes the Deployment's size to a set, so that a later change of it can be told from the rollout's own scaling.
func noteSize(set *appsv1.ReplicaSet, desired, most int32) {
	if set.Annotations == nil {
		set.Annotations = map[string]string{}
	}
	set.Annotations[DesiredReplicasAnnotation] = strconv.FormatInt(int64(desired), 10)
	set.Annotations[MaxReplicasAnnotation] = strconv.FormatInt(int64(most), 10)
}

func notedSize(set *appsv1.ReplicaSet, annotation string) (int32, bool) {
	n, err := strconv.ParseInt(set.Annotations[annotation], 10, 32)
	return int32(n), err == nil
}

func revisionOf(set *appsv1.ReplicaSet) int64 {
	n, err := strconv.ParseInt(set.Annotations[RevisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// sameTemplate compares pod templates without the hash that a set adds to its own.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	strip := func(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
		copied := *t
		copied.Labels = maps.Clone(t.Labels)
		delete(copied.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
		return &copied
	}
	return apiequality.Semantic.DeepEqual(strip(a), strip(b))
}

// templateHash names a template. The count of collisions is part of it.
func templateHash(template *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%v", dump.ForHash(*template))
	if collisions != nil {
		h.Write(binary.LittleEndian.AppendUint32(nil, uint32(*collisions)))
		h.Write(make([]byte, 4))
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

func setName(deployment, hash string) string {
	if most := validation.DNS1123SubdomainMaxLength - 1 - len(hash); len(deployment) > most {
		deployment = deployment[:most]
	}
	return deployment + "-" + hash
}

func byCreation(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

func byRevision(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(cmp.Compare(revisionOf(a), revisionOf(b)), byCreation(a, b))
}
