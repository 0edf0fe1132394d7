package deployment

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func template(version string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "demo:" + version}}}}
}

func deployment(replicas int32, surge, unavailable string) *appsv1.Deployment {
	s, u := intstr.Parse(surge), intstr.Parse(unavailable)
	deadline, limit := int32(600), int32(10)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "d", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template("v1"),
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}},
			ProgressDeadlineSeconds: &deadline, RevisionHistoryLimit: &limit,
		},
	}
}

// cluster applies plans as the API would and lets the test play the ReplicaSet controller.
type cluster struct {
	t       *testing.T
	d       *appsv1.Deployment
	sets    []*appsv1.ReplicaSet
	now     time.Time
	running bool
	uids    int
}

func newCluster(t *testing.T, d *appsv1.Deployment) *cluster {
	return &cluster{t: t, d: d, now: start}
}

func (c *cluster) plan() plan {
	return makePlan(state{deployment: c.d, sets: c.sets, running: func(types.UID) bool { return c.running }, now: c.now})
}

// step makes and applies one plan and reports whether it changed anything.
func (c *cluster) step() bool {
	p := c.plan()
	if p.create != nil {
		c.uids++
		set := p.create.DeepCopy()
		set.UID, set.CreationTimestamp, set.Generation = types.UID(fmt.Sprint("set", c.uids)), metav1.NewTime(c.now.Add(time.Duration(c.uids)*time.Second)), 1
		c.sets = append(c.sets, set)
	}
	for _, u := range p.update {
		i := slices.IndexFunc(c.sets, func(s *appsv1.ReplicaSet) bool { return s.UID == u.set.UID })
		c.sets[i] = u.set.DeepCopy()
	}
	for _, gone := range p.delete {
		c.sets = slices.DeleteFunc(c.sets, func(s *appsv1.ReplicaSet) bool { return s.UID == gone.UID })
	}
	moved := p.create != nil || len(p.update)+len(p.delete) > 0 || changed(c.d, p.deployment)
	d := p.deployment.DeepCopy()
	c.d = d
	return moved
}

// settle steps and makes all pods available until nothing changes.
func (c *cluster) settle() {
	c.t.Helper()
	for range 200 {
		moved := c.step()
		for _, set := range c.sets {
			n := *set.Spec.Replicas
			if set.Status.AvailableReplicas != n || set.Status.ObservedGeneration == 0 {
				moved = true
			}
			none := int32(0)
			set.Status = appsv1.ReplicaSetStatus{Replicas: n, ReadyReplicas: n, AvailableReplicas: n, ObservedGeneration: set.Generation, TerminatingReplicas: &none}
		}
		if !moved {
			return
		}
	}
	c.t.Fatalf("does not come to rest: %s", c)
}

func (c *cluster) String() string {
	var out []string
	for _, s := range c.sets {
		out = append(out, fmt.Sprintf("r%s=%d/%d", s.Annotations[RevisionAnnotation], s.Status.AvailableReplicas, *s.Spec.Replicas))
	}
	return strings.Join(out, " ")
}

func (c *cluster) update(version string) {
	c.d.Spec.Template = template(version)
	c.d.Generation++
}

func (c *cluster) condition(kind appsv1.DeploymentConditionType) string {
	if cond := condition(&c.d.Status, kind); cond != nil {
		return fmt.Sprintf("%s %s: %s", cond.Status, cond.Reason, cond.Message)
	}
	return ""
}

func (c *cluster) want(state string) {
	c.t.Helper()
	if c.String() != state {
		c.t.Fatalf("the sets are %s, want %s", c, state)
	}
}

func TestTheFirstSetIsMadeAtFullSize(t *testing.T) {
	c := newCluster(t, deployment(3, "25%", "25%"))
	p := c.plan()
	if p.create == nil || *p.create.Spec.Replicas != 3 {
		t.Fatalf("creates %v", p.create)
	}
	hash := p.create.Labels["pod-template-hash"]
	if p.create.Name != "web-"+hash || p.create.Spec.Selector.MatchLabels["pod-template-hash"] != hash || p.create.Spec.Template.Labels["pod-template-hash"] != hash {
		t.Errorf("creates %+v", p.create)
	}
	want := map[string]string{RevisionAnnotation: "1", DesiredReplicasAnnotation: "3", MaxReplicasAnnotation: "4"}
	if !maps.Equal(p.create.Annotations, want) {
		t.Errorf("annotated %v", p.create.Annotations)
	}
}

func TestARolloutGoesThroughItsConditions(t *testing.T) {
	c := newCluster(t, deployment(3, "1", "0"))
	c.step()
	name := c.sets[0].Name
	if got, want := c.condition(appsv1.DeploymentProgressing), fmt.Sprintf("True NewReplicaSetCreated: Created new replica set %q", name); got != want {
		t.Errorf("at first: %s, want %s", got, want)
	}
	if got, want := c.condition(appsv1.DeploymentAvailable), "False MinimumReplicasUnavailable: Deployment does not have minimum availability."; got != want {
		t.Errorf("at first: %s", got)
	}
	c.sets[0].Status.Replicas = 3
	c.step()
	if got, want := c.condition(appsv1.DeploymentProgressing), fmt.Sprintf("True ReplicaSetUpdated: ReplicaSet %q is progressing.", name); got != want {
		t.Errorf("then: %s, want %s", got, want)
	}
	c.settle()
	if got, want := c.condition(appsv1.DeploymentProgressing), fmt.Sprintf("True NewReplicaSetAvailable: ReplicaSet %q has successfully progressed.", name); got != want {
		t.Errorf("at last: %s, want %s", got, want)
	}
	if got, want := c.condition(appsv1.DeploymentAvailable), "True MinimumReplicasAvailable: Deployment has minimum availability."; got != want {
		t.Errorf("at last: %s", got)
	}
	if c.d.Annotations[RevisionAnnotation] != "1" {
		t.Errorf("annotated %v", c.d.Annotations)
	}
}

func TestAnUpdateIsUndoneUnderANewRevision(t *testing.T) {
	c := newCluster(t, deployment(3, "1", "1"))
	c.settle()
	c.update("v2")
	c.settle()
	c.want("r1=0/0 r2=3/3")
	c.update("v1")
	c.settle()
	c.want("r3=3/3 r2=0/0")
	if h := c.sets[0].Annotations[RevisionHistoryAnnotation]; h != "1" {
		t.Errorf("history is %q", h)
	}
}

func TestAVersionThatNeverBecomesReadyLeavesTheOldServing(t *testing.T) {
	c := newCluster(t, deployment(4, "25%", "25%"))
	c.settle()
	c.update("broken")
	for range 20 {
		c.step()
		for _, set := range c.sets {
			set.Status.Replicas = *set.Spec.Replicas
			if set.Spec.Template.Spec.Containers[0].Image != "demo:broken" {
				set.Status.AvailableReplicas = *set.Spec.Replicas
			}
		}
	}
	c.want("r1=3/3 r2=0/2")
	p := c.plan()
	if p.again != 601*time.Second {
		t.Errorf("looks again after %v", p.again)
	}
	c.now = c.now.Add(p.again)
	c.step()
	if got, want := c.condition(appsv1.DeploymentProgressing), fmt.Sprintf("False ProgressDeadlineExceeded: ReplicaSet %q has timed out progressing.", c.sets[1].Name); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if p := c.plan(); p.again != 0 {
		t.Errorf("looks again after %v although it has given up", p.again)
	}
}

func TestRecreateWaitsForTheOldPodsToEnd(t *testing.T) {
	d := deployment(2, "0", "0")
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	c := newCluster(t, d)
	c.settle()
	c.update("v2")
	c.running = true
	c.settle()
	c.want("r1=0/0")
	c.running = false
	c.settle()
	c.want("r1=0/0 r2=2/2")
}

func TestAPausedDeploymentScalesButDoesNotRoll(t *testing.T) {
	c := newCluster(t, deployment(2, "1", "0"))
	c.settle()
	c.d.Spec.Paused = true
	c.update("v2")
	c.settle()
	c.want("r1=2/2")
	if got := c.condition(appsv1.DeploymentProgressing); got != "Unknown DeploymentPaused: Deployment is paused" {
		t.Errorf("got %s", got)
	}
	*c.d.Spec.Replicas = 5
	c.settle()
	c.want("r1=5/5")
	c.d.Spec.Paused = false
	c.step()
	if got := c.condition(appsv1.DeploymentProgressing); got != "Unknown DeploymentResumed: Deployment is resumed" {
		t.Errorf("got %s", got)
	}
	c.settle()
	c.want("r1=0/0 r2=5/5")
}

func TestScalingAmidARolloutSharesTheChangeOut(t *testing.T) {
	c := newCluster(t, deployment(10, "3", "2"))
	c.settle()
	c.update("broken")
	for range 5 {
		c.step()
		for _, set := range c.sets {
			set.Status.Replicas = *set.Spec.Replicas
			if set.Spec.Template.Spec.Containers[0].Image != "demo:broken" {
				set.Status.AvailableReplicas = *set.Spec.Replicas
			}
		}
	}
	c.want("r1=8/8 r2=0/5")
	*c.d.Spec.Replicas = 15
	c.d.Generation++
	c.step()
	if r1, r2 := *c.sets[0].Spec.Replicas, *c.sets[1].Spec.Replicas; r1 != 11 || r2 != 7 {
		t.Errorf("sizes are %d and %d, want 11 and 7", r1, r2)
	}
}

func TestTheHistoryIsKeptWithinItsLimit(t *testing.T) {
	d := deployment(1, "1", "0")
	*d.Spec.RevisionHistoryLimit = 2
	c := newCluster(t, d)
	for _, v := range []string{"v1", "v2", "v3", "v4", "v5"} {
		c.update(v)
		c.settle()
	}
	c.want("r3=0/0 r4=0/0 r5=1/1")
}

func TestTheHistoryAnnotationStaysShort(t *testing.T) {
	history := ""
	for i := range 2000 {
		history, _ = appendHistory(history, fmt.Sprint(i))
	}
	if len(history) > maxHistoryLength || !strings.HasSuffix(history, ",1999") {
		t.Errorf("%d bytes, ends in %s", len(history), history[len(history)-20:])
	}
}

func TestAFailureToMakePodsIsShown(t *testing.T) {
	c := newCluster(t, deployment(1, "1", "0"))
	c.step()
	c.sets[0].Status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "quota"}}
	c.step()
	if got := c.condition(appsv1.DeploymentReplicaFailure); got != "True FailedCreate: quota" {
		t.Errorf("got %s", got)
	}
	c.sets[0].Status.Conditions = nil
	c.step()
	if got := c.condition(appsv1.DeploymentReplicaFailure); got != "" {
		t.Errorf("still there: %s", got)
	}
}

func TestTheHashIsUpstreams(t *testing.T) {
	tmpl := template("v1")
	plain, one := templateHash(&tmpl, nil), int32(1)
	if other := templateHash(&tmpl, &one); other == plain {
		t.Error("a collision does not change the hash")
	}
	for _, r := range plain {
		if !strings.ContainsRune("bcdfghjklmnpqrstvwxz2456789", r) {
			t.Errorf("the hash %s has a %c", plain, r)
		}
	}
}
