package statefulset

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func stateful(replicas int32, policy appsv1.PodManagementPolicyType) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "db"}, Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, PodManagementPolicy: policy, ServiceName: "db", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
		UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
		Template:       corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "db"}}},
	}}
}

// world plays the API and the kubelet.
type world struct {
	state
	log []string
}

// step applies one plan; pods that are deleted go at once. It reports whether anything was done.
func (w *world) step() bool {
	p := makePlan(w.state)
	for _, b := range p.create {
		w.pods = append(w.pods, newPod(w.set, &w.set.Spec.Template, b.revision, b.ordinal))
		w.log = append(w.log, fmt.Sprintf("+%d%s", b.ordinal, b.revision))
	}
	for _, gone := range p.delete {
		w.pods = slices.DeleteFunc(w.pods, func(o *corev1.Pod) bool { return o.Name == gone.Name })
		w.log = append(w.log, fmt.Sprintf("-%d%s", ordinal(w.set, gone), revisionOf(gone)))
	}
	set := w.set.DeepCopy()
	set.Status = makeStatus(w.state, nil)
	w.set, w.current = set, set.Status.CurrentRevision
	return len(p.create)+len(p.delete) > 0
}

func (w *world) ready(only ...int) {
	for _, pod := range w.pods {
		if len(only) > 0 && !slices.Contains(only, ordinal(w.set, pod)) {
			continue
		}
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	}
}

// settle steps until nothing happens, with all pods becoming ready between the steps.
func (w *world) settle() string {
	w.log = nil
	for range 50 {
		moved := w.step()
		w.ready()
		if !moved && !w.step() {
			return strings.Join(w.log, " ")
		}
	}
	return "does not come to rest: " + strings.Join(w.log, " ")
}

func newWorld(set *appsv1.StatefulSet) *world {
	return &world{state: state{set: set, current: "a", update: "a", now: time.Now()}}
}

func TestPodsComeAndGoInOrder(t *testing.T) {
	w := newWorld(stateful(3, appsv1.OrderedReadyPodManagement))
	if got := w.settle(); got != "+0a +1a +2a" {
		t.Errorf("at first: %s", got)
	}
	*w.set.Spec.Replicas = 1
	if got := w.settle(); got != "-2a -1a" {
		t.Errorf("scaled down: %s", got)
	}
	if w.set.Status.Replicas != 1 || w.set.Status.CurrentReplicas != 1 {
		t.Errorf("status is %+v", w.set.Status)
	}
}

func TestTheNextPodWaitsForTheFormer(t *testing.T) {
	w := newWorld(stateful(3, appsv1.OrderedReadyPodManagement))
	for range 5 {
		w.step()
	}
	if got := strings.Join(w.log, " "); got != "+0a" {
		t.Errorf("while the first isn't ready: %s", got)
	}
}

func TestInParallelAllComeAtOnce(t *testing.T) {
	w := newWorld(stateful(3, appsv1.ParallelPodManagement))
	w.step()
	if got := strings.Join(w.log, " "); got != "+0a +1a +2a" {
		t.Errorf("got %s", got)
	}
}

func TestAnUpdateGoesFromTheHighestNumberDown(t *testing.T) {
	w := newWorld(stateful(3, appsv1.OrderedReadyPodManagement))
	w.settle()
	w.update = "b"
	if got := w.settle(); got != "-2a +2b -1a +1b -0a +0b" {
		t.Errorf("got %s", got)
	}
	if s := w.set.Status; s.CurrentRevision != "b" || s.UpdatedReplicas != 3 || s.CurrentReplicas != 3 {
		t.Errorf("status is %+v", s)
	}
}

func TestAPartitionHoldsTheLowerNumbersBack(t *testing.T) {
	w := newWorld(stateful(3, appsv1.OrderedReadyPodManagement))
	w.settle()
	two := int32(2)
	w.set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: &two}
	w.update = "b"
	if got := w.settle(); got != "-2a +2b" {
		t.Errorf("got %s", got)
	}
	w.pods = slices.DeleteFunc(w.pods, func(p *corev1.Pod) bool { return ordinal(w.set, p) == 0 })
	if got := w.settle(); got != "+0a" {
		t.Errorf("a lost pod below the partition: %s", got)
	}
	if s := w.set.Status; s.CurrentRevision != "a" || s.UpdatedReplicas != 1 || s.CurrentReplicas != 2 {
		t.Errorf("status is %+v", s)
	}
}

func TestAnUpdateStopsAtAPodThatDoesNotBecomeReady(t *testing.T) {
	w := newWorld(stateful(3, appsv1.OrderedReadyPodManagement))
	w.settle()
	w.update, w.log = "b", nil
	for range 5 {
		w.step()
	}
	if got := strings.Join(w.log, " "); got != "-2a +2b" {
		t.Errorf("got %s", got)
	}
}

func TestMaxUnavailableUpdatesSeveralAtATime(t *testing.T) {
	w := newWorld(stateful(4, appsv1.ParallelPodManagement))
	w.settle()
	two := intstr.FromInt32(2)
	w.set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{MaxUnavailable: &two}
	w.update = "b"
	if got := w.settle(); got != "-3a -2a +2b +3b -1a -0a +0b +1b" {
		t.Errorf("got %s", got)
	}
}

func TestOnDeleteUpdatesWhatPeopleDelete(t *testing.T) {
	w := newWorld(stateful(2, appsv1.OrderedReadyPodManagement))
	w.settle()
	w.set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
	w.update = "b"
	if got := w.settle(); got != "" {
		t.Errorf("got %s", got)
	}
	w.pods = w.pods[1:]
	if got := w.settle(); got != "+0b" {
		t.Errorf("got %s", got)
	}
}

func TestAPodThatFailedIsReplaced(t *testing.T) {
	w := newWorld(stateful(2, appsv1.OrderedReadyPodManagement))
	w.settle()
	w.pods[0].Status.Phase = corev1.PodFailed
	if got := w.settle(); got != "-0a +0a" {
		t.Errorf("got %s", got)
	}
}

func TestNumbersMayStartElsewhere(t *testing.T) {
	set := stateful(2, appsv1.OrderedReadyPodManagement)
	set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 5}
	w := newWorld(set)
	if got := w.settle(); got != "+5a +6a" {
		t.Errorf("got %s", got)
	}
}

func TestAPodHasAnIdentity(t *testing.T) {
	set := stateful(1, "")
	set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
	p := newPod(set, &set.Spec.Template, "rev", 3)
	if p.Name != "db-3" || p.Spec.Hostname != "db-3" || p.Spec.Subdomain != "db" || p.Labels["statefulset.kubernetes.io/pod-name"] != "db-3" ||
		p.Labels["apps.kubernetes.io/pod-index"] != "3" || p.Labels["controller-revision-hash"] != "rev" || p.Spec.Volumes[0].PersistentVolumeClaim.ClaimName != "data-db-3" {
		t.Errorf("got %+v", p)
	}
	if c := claims(set, 3)[0]; c.Name != "data-db-3" || c.Labels["app"] != "db" {
		t.Errorf("got %+v", c.ObjectMeta)
	}
	for name, want := range map[string]int{"db-0": 0, "db-12": 12, "db-x": -1, "db-01": -1, "dbx-1": -1, "db-": -1} {
		if got := ordinal(set, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}); got != want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestTheRetentionPolicyDecidesWhoOwnsAClaim(t *testing.T) {
	remove, retain := appsv1.DeletePersistentVolumeClaimRetentionPolicyType, appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "db-0", UID: "p"}}
	for _, test := range []struct {
		deleted, scaled appsv1.PersistentVolumeClaimRetentionPolicyType
		condemned       bool
		want            string
	}{
		{retain, retain, false, ""}, {retain, retain, true, ""}, {remove, retain, true, "StatefulSet"}, {retain, remove, false, ""},
		{retain, remove, true, "Pod"}, {remove, remove, false, "StatefulSet"}, {remove, remove, true, "Pod"},
	} {
		set := stateful(1, "")
		set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: test.deleted, WhenScaled: test.scaled}
		got := ""
		for _, o := range claimOwners(set, pod, test.condemned, nil) {
			got += o.Kind
		}
		if got != test.want {
			t.Errorf("%s when deleted, %s when scaled, condemned %v: owned by %q, want %q", test.deleted, test.scaled, test.condemned, got, test.want)
		}
	}
}

// Whoever moves a cluster to or from upstream's controllers finds the names that these give.
func TestNamesAreUpstreams(t *testing.T) {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"}}
	if p := newPod(set, &set.Spec.Template, "db-1", 0); p.Name != "db-0" || p.GenerateName != "db-" {
		t.Errorf("a pod is named %q, by %q", p.Name, p.GenerateName)
	}
	// A status that counts no collisions yet counts as one that has counted none.
	name, _, _ := revisionName("db")([]byte(`{"spec":{"template":{}}}`), counted(nil))
	if other, _, _ := revisionName("db")([]byte(`{"spec":{"template":{}}}`), nil); name == other {
		t.Errorf("the number of collisions is no part of %s", name)
	}
}
