package ttlafterfinished

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	jobs, err := client.Jobs.View(ctx, env.Client, client.Selection{})
	if err != nil {
		return controller.Controller{}, err
	}
	late := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ttl_after_finished_controller_job_deletion_duration_seconds",
		Help: "The time it took to delete the job since it became eligible for deletion", Buckets: prometheus.ExponentialBuckets(0.1, 2, 14)})
	if err := env.Register(late); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name:    "ttl_jobs_to_delete",
		Inputs:  []controller.Input{{View: jobs.View, Keys: finished}},
		Outputs: []string{"batch/jobs"},
		Reconcile: func(ctx context.Context, key controller.Key) (controller.Again, error) {
			job, ok := jobs.Get(key.Namespace, key.Name)
			if !ok {
				return controller.Again{}, nil
			}
			left, due := remaining(job, time.Now())
			if !due || left > 0 {
				return controller.Again{After: max(left, 0)}, nil
			}
			// The precondition makes sure that it's the Job that was looked at: its time may have been changed just now.
			uid, revision, policy := job.UID, job.ResourceVersion, metav1.DeletePropagationForeground
			err := client.Jobs.Delete(ctx, env.Client, job.Namespace, job.Name, metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &revision}, PropagationPolicy: &policy})
			if apierrors.IsNotFound(err) {
				return controller.Again{}, nil
			}
			if err == nil {
				late.Observe(-left.Seconds())
			}
			return controller.Again{}, err
		},
	}, nil
}

func finished(c client.Change) []controller.Key {
	if c.New == nil || c.New.Deleting() {
		return nil
	}
	if _, due := remaining(c.New.Object().(*batchv1.Job), time.Now()); !due {
		return nil
	}
	return controller.Self(c)
}

// remaining returns how long a Job has until it is deleted; false if it isn't to be.
func remaining(job *batchv1.Job, now time.Time) (time.Duration, bool) {
	if job.Spec.TTLSecondsAfterFinished == nil || job.DeletionTimestamp != nil {
		return 0, false
	}
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second).Sub(now), true
		}
	}
	return 0, false
}
