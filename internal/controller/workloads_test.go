package controller_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"clipper.dev/clipper/internal/client"
)

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }

func template(app, image string, restart corev1.RestartPolicy) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{RestartPolicy: restart, Containers: []corev1.Container{{Name: "c", Image: image}}}}
}

func selector(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

// create makes an object and fails the test if it can't.
func create[T client.Object](c *cluster, kind client.Kind[T], o T) T {
	c.t.Helper()
	out, err := kind.Create(c.ctx, c, o)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// updated changes an object until no other writer is in between.
func updated[T client.Object](c *cluster, kind client.Kind[T], namespace, name string, change func(T)) {
	c.t.Helper()
	for {
		o, err := kind.Get(c.ctx, c, namespace, name)
		if err != nil {
			c.t.Fatal(err)
		}
		next := o.DeepCopyObject().(T)
		change(next)
		if _, err = kind.Update(c.ctx, c, next); err == nil {
			return
		} else if !apierrors.IsConflict(err) {
			c.t.Fatal(err)
		}
	}
}

func TestAStatefulSetLivesOnTheRealEngine(t *testing.T) {
	c := newCluster(t)
	n := int32(3)
	create(c, client.StatefulSets, &appsv1.StatefulSet{ObjectMeta: meta("db"), Spec: appsv1.StatefulSetSpec{Replicas: &n, ServiceName: "db", Selector: selector("db"),
		Template: template("db", "demo:v1", corev1.RestartPolicyAlways)}})
	through := func(image string) func() bool {
		return func() bool {
			s, err := client.StatefulSets.Get(c.ctx, c, "default", "db")
			if err != nil || s.Status.ReadyReplicas != 3 || s.Status.UpdatedReplicas != 3 || s.Status.CurrentRevision != s.Status.UpdateRevision || s.Status.ObservedGeneration < s.Generation {
				return false
			}
			for i := range 3 {
				p, err := client.Pods.Get(c.ctx, c, "default", fmt.Sprint("db-", i))
				if err != nil || p.Spec.Containers[0].Image != image {
					return false
				}
			}
			return true
		}
	}
	eventually(c, client.StatefulSets, "three pods", through("demo:v1"))
	updated(c, client.StatefulSets, "default", "db", func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "demo:v2" })
	eventually(c, client.StatefulSets, "the update", through("demo:v2"))
	list, err := client.ControllerRevisions.List(c.ctx, c, "default", nil)
	if err != nil || len(list) != 2 {
		t.Errorf("%d revisions, %v", len(list), err)
	}
}

func TestADaemonSetLivesOnTheRealEngine(t *testing.T) {
	c := newCluster(t)
	create(c, client.DaemonSets, &appsv1.DaemonSet{ObjectMeta: meta("agent"), Spec: appsv1.DaemonSetSpec{Selector: selector("agent"), Template: template("agent", "demo:v1", corev1.RestartPolicyAlways)}})
	through := func(image string) func() bool {
		return func() bool {
			d, err := client.DaemonSets.Get(c.ctx, c, "default", "agent")
			pods, _ := client.Pods.List(c.ctx, c, "default", nil)
			return err == nil && d.Status.DesiredNumberScheduled == 1 && d.Status.NumberAvailable == 1 && d.Status.UpdatedNumberScheduled == 1 &&
				d.Status.ObservedGeneration >= d.Generation && len(pods) == 1 && pods[0].Spec.Containers[0].Image == image
		}
	}
	eventually(c, client.DaemonSets, "a pod on the node", through("demo:v1"))
	updated(c, client.DaemonSets, "default", "agent", func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Containers[0].Image = "demo:v2" })
	eventually(c, client.DaemonSets, "the update", through("demo:v2"))
}

func TestAJobEndsOnTheRealEngine(t *testing.T) {
	c := newCluster(t)
	completions, parallelism, indexed, soon := int32(6), int32(2), batchv1.IndexedCompletion, int32(1)
	create(c, client.Jobs, &batchv1.Job{ObjectMeta: meta("sum"), Spec: batchv1.JobSpec{Completions: &completions, Parallelism: &parallelism, CompletionMode: &indexed,
		TTLSecondsAfterFinished: &soon, Template: template("sum", "ends", corev1.RestartPolicyNever)}})
	eventually(c, client.Jobs, "the Job is complete", func() bool {
		j, err := client.Jobs.Get(c.ctx, c, "default", "sum")
		if err != nil {
			t.Fatal(err)
		}
		for _, cond := range j.Status.Conditions {
			if cond.Type == batchv1.JobComplete && cond.Status == corev1.ConditionTrue {
				if j.Status.Succeeded != 6 || j.Status.CompletedIndexes != "0-5" || j.Status.CompletionTime == nil {
					t.Errorf("status is %+v", j.Status)
				}
				return true
			}
		}
		return false
	})
	eventually(c, client.Jobs, "the Job is gone after its time, and its pods with it", func() bool {
		_, err := client.Jobs.Get(c.ctx, c, "default", "sum")
		return apierrors.IsNotFound(err)
	})
	if pods, err := client.Pods.List(c.ctx, c, "default", nil); err != nil || len(pods) != 0 {
		t.Errorf("%d pods are left, %v", len(pods), err)
	}
}

func TestACronJobMakesItsJobs(t *testing.T) {
	c := newCluster(t)
	create(c, client.CronJobs, &batchv1.CronJob{ObjectMeta: meta("tick"), Spec: batchv1.CronJobSpec{Schedule: "@every 1s",
		JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template("tick", "ends", corev1.RestartPolicyNever)}}}})
	eventually(c, client.CronJobs, "a Job succeeded", func() bool {
		j, err := client.CronJobs.Get(c.ctx, c, "default", "tick")
		return err == nil && j.Status.LastScheduleTime != nil && j.Status.LastSuccessfulTime != nil
	})
}

func TestABudgetIsCounted(t *testing.T) {
	c := newCluster(t)
	create(c, client.Deployments, web(3, "demo:v1"))
	most := intstr.FromInt32(1)
	create(c, client.PodDisruptionBudgets, &policyv1.PodDisruptionBudget{ObjectMeta: meta("web"), Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &most, Selector: selector("web")}})
	eventually(c, client.PodDisruptionBudgets, "one may go", func() bool {
		b, err := client.PodDisruptionBudgets.Get(c.ctx, c, "default", "web")
		return err == nil && b.Status.DisruptionsAllowed == 1 && b.Status.ExpectedPods == 3 && b.Status.DesiredHealthy == 2
	})
}

func TestPodsOfALostNodeAreReplaced(t *testing.T) {
	c := newCluster(t)
	create(c, client.Pods, &corev1.Pod{ObjectMeta: meta("lonely"), Spec: template("x", "demo:v1", corev1.RestartPolicyAlways).Spec})
	eventually(c, client.Pods, "the pod runs", func() bool {
		p, err := client.Pods.Get(c.ctx, c, "default", "lonely")
		return err == nil && p.Status.Phase == corev1.PodRunning
	})
	taint := corev1.Taint{Key: "out", Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: time.Now()}}
	updated(c, client.Nodes, "", "n1", func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, taint) })
	eventually(c, client.Pods, "the pod was evicted", func() bool {
		_, err := client.Pods.Get(c.ctx, c, "default", "lonely")
		return apierrors.IsNotFound(err)
	})
}
