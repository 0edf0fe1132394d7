package replicaset

import (
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func pods(n int, readySince time.Time) []*corev1.Pod {
	out := make([]*corev1.Pod, n)
	for i := range out {
		out[i] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Labels: map[string]string{"app": "web"}}}
		if !readySince.IsZero() {
			out[i].Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(readySince)}}
		}
	}
	return out
}

func set(replicas int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "set", Generation: 3},
		Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}}},
	}
}

func TestThePlanMakesUpTheDifference(t *testing.T) {
	for _, test := range []struct{ want, have, create, delete int }{
		{3, 0, 3, 0}, {3, 3, 0, 0}, {3, 5, 0, 2}, {0, 2, 0, 2}, {1000, 0, burst, 0}, {0, 1000, 0, burst},
	} {
		p := makePlan(int32(test.want), pods(test.have, time.Time{}), nil, now)
		if p.create != test.create || len(p.delete) != test.delete {
			t.Errorf("wanting %d and having %d: create %d, delete %d", test.want, test.have, p.create, len(p.delete))
		}
	}
}

func TestStatusCountsThePods(t *testing.T) {
	rs := set(5)
	rs.Spec.MinReadySeconds = 60
	active := append(append(pods(1, time.Time{}), pods(1, now.Add(-time.Minute))...), pods(2, now.Add(-20*time.Second))...)
	active[0].Labels = nil
	s, next := makeStatus(rs, active, 2, nil, now)
	if s.Replicas != 4 || s.FullyLabeledReplicas != 3 || s.ReadyReplicas != 3 || s.AvailableReplicas != 1 || *s.TerminatingReplicas != 2 || s.ObservedGeneration != 3 {
		t.Errorf("got %+v", s)
	}
	if next != 40*time.Second {
		t.Errorf("looks again after %v", next)
	}
}

func TestReplicaFailureComesAndGoes(t *testing.T) {
	rs := set(1)
	s, _ := makeStatus(rs, nil, 0, errors.New("exceeded quota"), now)
	if len(s.Conditions) != 1 || s.Conditions[0].Reason != "FailedCreate" || s.Conditions[0].Message != "exceeded quota" || s.Conditions[0].Status != corev1.ConditionTrue {
		t.Fatalf("got %+v", s.Conditions)
	}
	rs.Status = s
	if s, _ = makeStatus(rs, pods(1, now), 0, nil, now); len(s.Conditions) != 0 {
		t.Errorf("still there: %+v", s.Conditions)
	}
	if s, _ = makeStatus(set(0), pods(1, now), 0, errors.New("no"), now); s.Conditions[0].Reason != "FailedDelete" {
		t.Errorf("got %+v", s.Conditions)
	}
}
