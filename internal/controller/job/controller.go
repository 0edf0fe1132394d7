package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/claim"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

var gvk = batchv1.SchemeGroupVersion.WithKind("Job")

type reconciler struct {
	client  client.Client
	events  *events.Recorder
	control podcontrol.Control
	jobs    client.TypedView[*batchv1.Job]
	pods    client.TypedView[*corev1.Pod]

	metrics metrics

	mu   sync.Mutex
	past map[types.UID]*record
}

// record remembers the failures in a row of a Job's pods.
type record struct {
	failures int
	last     time.Time
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	recorder := env.Events("job-controller")
	r := &reconciler{client: env.Client, events: recorder, control: podcontrol.Control{Client: env.Client, Events: recorder}, past: map[types.UID]*record{}, metrics: newMetrics()}
	if err := r.metrics.register(&env); err != nil {
		return controller.Controller{}, err
	}
	if err := client.Open(ctx, env.Client, client.Jobs.Into(&r.jobs), client.Pods.Into(&r.pods)); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "job",
		Inputs: []controller.Input{
			{View: r.jobs.View, Keys: r.ofJob},
			{View: r.pods.View, Keys: r.ofPod},
		},
		Outputs:   []string{"pods", "batch/jobs/status"},
		Reconcile: r.reconcile,
	}, nil
}

// podKey marks keys of pods that carry the finalizer without a Job: no object's name has a slash.
const podKey = "pod/"

func (r *reconciler) ofJob(c client.Change) []controller.Key {
	r.metrics.sawJob(c)
	return controller.Self(c)
}

func (r *reconciler) ofPod(c client.Change) []controller.Key {
	r.metrics.sawPod(c)
	keys := controller.OwnerOf(gvk.Kind)(c)
	if c.New == nil {
		return keys
	}
	ref := controller.ControllerRef(c.New.Owners())
	if ref != nil && ref.Kind == gvk.Kind {
		if it, ok := client.Lookup(r.jobs.View, c.New.Namespace(), ref.Name); ok && it.UID() == ref.UID {
			return keys
		}
	}
	if (ref == nil || ref.Kind == gvk.Kind) && tracked(c.New.Object().(*corev1.Pod)) {
		keys = append(keys, controller.Key{Namespace: c.New.Namespace(), Name: podKey + c.New.Name()})
	}
	return append(keys, claim.Adopters(r.jobs, selectorOf, c.New)...)
}

func selectorOf(job *batchv1.Job) *metav1.LabelSelector { return job.Spec.Selector }

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	if len(key.Name) > len(podKey) && key.Name[:len(podKey)] == podKey {
		return controller.Again{}, r.untrackOrphan(ctx, key.Namespace, key.Name[len(podKey):])
	}
	job, ok := r.jobs.Get(key.Namespace, key.Name)
	if !ok || !ours(job) {
		return controller.Again{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err != nil {
		return controller.Again{}, nil // validation lets no such selector in
	}
	c := claim.Claimer[*corev1.Pod]{Client: r.client, Kind: client.Pods, Owner: job, OwnerKind: gvk, OwnerGVR: client.Jobs.GVR, Selector: selector}
	pods, err := c.Claim(ctx, c.Candidates(r.pods))
	if err != nil {
		return controller.Again{}, err
	}
	if ended(job) {
		r.forget(job.UID)
		return controller.Again{}, r.untrack(ctx, podcontrol.Filter(pods, tracked))
	}
	began := time.Now()
	failures, last := r.recall(job.UID)
	p := makePlan(state{job: job, pods: pods, failuresInARow: failures, lastFailure: last, now: time.Now()})
	err = r.apply(ctx, job, &p)
	r.metrics.synced(job, &p, time.Since(began), err)
	return controller.Again{After: p.again}, err
}

// ours tells whether a Job is for this controller.
func ours(job *batchv1.Job) bool {
	return job.Spec.ManagedBy == nil || *job.Spec.ManagedBy == batchv1.JobControllerName
}

// apply writes the status first: no finalizer goes before its pod's UID is stored.
func (r *reconciler) apply(ctx context.Context, job *batchv1.Job, p *plan) error {
	if !apiequality.Semantic.DeepEqual(job.Status, p.status) {
		next := job.DeepCopy()
		next.Status = p.status
		if _, err := client.Jobs.UpdateStatus(ctx, r.client, next); err != nil {
			return err
		}
		r.metrics.stored(job, &p.status)
	}
	r.metrics.decided(p)
	r.remember(job.UID, p)
	for _, e := range p.events {
		r.events.Event(job, e.kind, e.reason, e.message)
	}
	err := errors.Join(r.untrack(ctx, p.untrack), r.control.DeleteAll(ctx, job, p.delete))
	if len(p.create) == 0 {
		return err
	}
	return errors.Join(err, r.create(ctx, job, p))
}

func (r *reconciler) create(ctx context.Context, job *batchv1.Job, p *plan) error {
	var succeeded, failed atomic.Int64
	_, err := podcontrol.SlowStart(len(p.create), func(i int) error {
		_, err := r.control.Create(ctx, job, newPod(job, p.create[i]))
		switch {
		case err == nil:
			succeeded.Add(1)
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return nil
		default:
			failed.Add(1)
		}
		return err
	})
	r.metrics.made(job, &p.status, int(succeeded.Load()), int(failed.Load()))
	return err
}

// untrack takes the finalizer from pods.
func (r *reconciler) untrack(ctx context.Context, pods []*corev1.Pod) error {
	var g errgroup.Group
	g.SetLimit(podcontrol.Parallel)
	for _, pod := range pods {
		g.Go(func() error {
			if !tracked(pod) {
				return nil
			}
			data, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID, "$deleteFromPrimitiveList/finalizers": []string{batchv1.JobTrackingFinalizer}}})
			if err != nil {
				return err
			}
			_, err = client.Pods.Patch(ctx, r.client, pod.Namespace, pod.Name, "", types.StrategicMergePatchType, data, metav1.PatchOptions{})
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) && gone(ctx, r.client, pod) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("take the finalizer from pod %s: %w", pod.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// gone tells whether a pod has made room for another of its name.
func gone(ctx context.Context, c client.Client, pod *corev1.Pod) bool {
	now, err := client.Pods.Get(ctx, c, pod.Namespace, pod.Name)
	return apierrors.IsNotFound(err) || err == nil && now.UID != pod.UID
}

// untrackOrphan lets a pod go whose Job has gone.
func (r *reconciler) untrackOrphan(ctx context.Context, namespace, name string) error {
	pod, ok := r.pods.Get(namespace, name)
	if !ok || !tracked(pod) {
		return nil
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		if job, ok := r.jobs.Get(namespace, ref.Name); ref.Kind != gvk.Kind || ok && job.UID == ref.UID {
			return nil
		}
	}
	return r.untrack(ctx, []*corev1.Pod{pod})
}

func (r *reconciler) recall(uid types.UID) (int, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.past[uid]; rec != nil {
		return rec.failures, rec.last
	}
	return 0, time.Time{}
}

// remember counts failures since the last success.
func (r *reconciler) remember(uid types.UID, p *plan) {
	if len(p.succeeded)+len(p.failed) == 0 {
		return
	}
	all := slices.Concat(p.succeeded, p.failed)
	slices.SortFunc(all, byFinish)
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.past[uid]
	if rec == nil {
		rec = &record{}
		r.past[uid] = rec
	}
	for _, pod := range all {
		if pod.Status.Phase == corev1.PodSucceeded {
			*rec = record{}
			continue
		}
		rec.failures++
		rec.last = finishedAt(pod)
	}
}

func (r *reconciler) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.past, uid)
}

// newPod makes a pod of the Job's template.
func newPod(job *batchv1.Job, b birth) *corev1.Pod {
	pod := podcontrol.FromTemplate(&job.Spec.Template, job.Namespace, job.Name, metav1.NewControllerRef(job, gvk))
	pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	if b.index < 0 {
		return pod
	}
	index := strconv.Itoa(b.index)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = index
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = index
	if job.Spec.BackoffLimitPerIndex != nil {
		pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(b.counted)
		if b.ignored > 0 {
			pod.Annotations[ignoredAnnotation] = strconv.Itoa(b.ignored)
		}
	}
	pod.GenerateName = job.Name + "-" + index + "-"
	pod.Spec.Hostname = job.Name + "-" + index
	env := corev1.EnvVar{Name: "JOB_COMPLETION_INDEX", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation)}}}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !slices.ContainsFunc(list[i].Env, func(e corev1.EnvVar) bool { return e.Name == env.Name }) {
				list[i].Env = append(list[i].Env, env)
			}
		}
	}
	return pod
}
