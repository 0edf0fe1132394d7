package cronjob

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/store"
)

type reconciler struct {
	client client.Client
	events *events.Recorder
	crons  client.TypedView[*batchv1.CronJob]
	jobs   client.TypedView[*batchv1.Job]
	late   prometheus.Histogram // from when a Job is due to when it is made
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("cronjob-controller"),
		late: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "cronjob_controller_job_creation_skew_duration_seconds",
			Help: "Time between when a cronjob is scheduled to be run, and when the corresponding job is created", Buckets: prometheus.ExponentialBuckets(1, 2, 10)}),
	}
	if err := env.Register(r.late); err != nil {
		return controller.Controller{}, err
	}
	if err := client.Open(ctx, env.Client, client.CronJobs.Into(&r.crons), client.Jobs.Into(&r.jobs)); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "cronjob",
		Inputs: []controller.Input{
			{View: r.crons.View, Keys: controller.Self},
			{View: r.jobs.View, Keys: controller.OwnerOf(gvk.Kind)},
		},
		Outputs:   []string{"batch/jobs", "batch/cronjobs/status"},
		Reconcile: r.reconcile,
	}, nil
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	cron, ok := r.crons.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	var jobs []*batchv1.Job
	for _, job := range r.jobs.ByIndex(store.OwnerIndex, string(cron.UID)) {
		if metav1.IsControlledBy(job, cron) {
			jobs = append(jobs, job)
		}
	}
	p := makePlan(state{cron: cron, jobs: jobs, now: time.Now()})
	for _, e := range p.events {
		r.events.Event(cron, e.kind, e.reason, e.message)
	}
	for _, job := range append(p.delete, p.stop...) {
		if err := r.delete(ctx, cron, job); err != nil {
			return controller.Again{}, err
		}
	}
	if p.create != nil {
		if err := r.create(ctx, cron, &p); err != nil {
			return controller.Again{}, err
		}
	}
	if !apiequality.Semantic.DeepEqual(cron.Status, p.status) {
		next := cron.DeepCopy()
		next.Status = p.status
		if _, err := client.CronJobs.UpdateStatus(ctx, r.client, next); err != nil {
			return controller.Again{}, err
		}
	}
	return controller.Again{After: p.again}, nil
}

func (r *reconciler) delete(ctx context.Context, cron *batchv1.CronJob, job *batchv1.Job) error {
	background := metav1.DeletePropagationBackground
	err := client.Jobs.Delete(ctx, r.client, job.Namespace, job.Name, metav1.DeleteOptions{
		PropagationPolicy: &background, Preconditions: metav1.NewUIDPreconditions(string(job.UID))})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		r.events.Eventf(cron, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return fmt.Errorf("delete job %s: %w", job.Name, err)
	}
	r.events.Eventf(cron, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", job.Name)
	return nil
}

// create makes the Job that is due and notes it. If a Job of that name is there and the CronJob's own, an earlier attempt got that far.
func (r *reconciler) create(ctx context.Context, cron *batchv1.CronJob, p *plan) error {
	job, err := client.Jobs.Create(ctx, r.client, p.create)
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case apierrors.IsAlreadyExists(err):
		if job, err = client.Jobs.Get(ctx, r.client, p.create.Namespace, p.create.Name); err != nil {
			return err
		}
		if !metav1.IsControlledBy(job, cron) {
			return fmt.Errorf("the job %s is there, and not this CronJob's", job.Name)
		}
	case err != nil:
		r.events.Eventf(cron, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return err
	default:
		r.late.Observe(job.CreationTimestamp.Sub(p.due).Seconds())
		r.events.Eventf(cron, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", job.Name)
	}
	if outcome(job) == "" {
		p.status.Active = append(p.status.Active, reference(job))
	}
	p.status.LastScheduleTime = &metav1.Time{Time: p.due}
	return nil
}
