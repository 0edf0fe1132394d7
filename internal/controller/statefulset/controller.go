package statefulset

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/claim"
	"clipper.dev/clipper/internal/controller/history"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

type reconciler struct {
	client    client.Client
	events    *events.Recorder
	sets      client.TypedView[*appsv1.StatefulSet]
	pods      client.TypedView[*corev1.Pod]
	claims    client.TypedView[*corev1.PersistentVolumeClaim]
	revisions client.TypedView[*appsv1.ControllerRevision]
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("statefulset-controller")}
	if err := client.Open(ctx, env.Client,
		client.StatefulSets.Into(&r.sets), client.Pods.Into(&r.pods), client.PersistentVolumeClaims.Into(&r.claims),
		client.ControllerRevisions.Into(&r.revisions),
	); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "statefulset",
		Inputs: []controller.Input{
			{View: r.sets.View, Keys: controller.Self},
			{View: r.pods.View, Keys: claim.Keys(gvk.Kind, r.sets, selectorOf)},
			{View: r.claims.View},
			{View: r.revisions.View, Keys: controller.OwnerOf(gvk.Kind)},
		},
		Outputs:   []string{"pods", "persistentvolumeclaims", "apps/controllerrevisions", "apps/statefulsets/status"},
		Reconcile: r.reconcile,
	}, nil
}

func selectorOf(set *appsv1.StatefulSet) *metav1.LabelSelector { return set.Spec.Selector }

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	set, ok := r.sets.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return controller.Again{}, nil // validation lets no such selector in
	}
	pods, err := r.own(ctx, set, selector)
	if err != nil {
		return controller.Again{}, err
	}
	past := r.history(set, selector)
	list, err := past.List(ctx)
	if err != nil {
		return controller.Again{}, err
	}
	update, collisions, err := past.Ensure(ctx, list, &set.Spec.Template, counted(set.Status.CollisionCount))
	if err != nil {
		return controller.Again{}, fmt.Errorf("keep the revision: %w", err)
	}
	current := update
	for _, rev := range list {
		if rev.Name == set.Status.CurrentRevision {
			current = rev
		}
	}
	s := state{set: set, pods: pods, current: current.Name, update: update.Name, now: time.Now()}
	p := makePlan(s)
	acted := r.apply(ctx, &s, &p, current)
	status := makeStatus(s, collisions)
	if !apiequality.Semantic.DeepEqual(set.Status, status) {
		next := set.DeepCopy()
		next.Status = status
		if _, err := client.StatefulSets.UpdateStatus(ctx, r.client, next); err != nil {
			return controller.Again{}, errors.Join(acted, err)
		}
	}
	if acted != nil {
		return controller.Again{}, acted
	}
	return controller.Again{After: p.again}, r.trim(ctx, past, set, list, pods, current, update)
}

// own returns the pods that belong to the set. Only orphans that have a name of the set's are adopted.
func (r *reconciler) own(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector) ([]*corev1.Pod, error) {
	c := claim.Claimer[*corev1.Pod]{Client: r.client, Kind: client.Pods, Owner: set, OwnerKind: gvk, OwnerGVR: client.StatefulSets.GVR, Selector: selector}
	candidates := podcontrol.Filter(c.Candidates(r.pods), func(p *corev1.Pod) bool { return ordinal(set, p) >= 0 })
	return c.Claim(ctx, candidates)
}

func (r *reconciler) history(set *appsv1.StatefulSet, selector labels.Selector) *history.Owner {
	return &history.Owner{Client: r.client, Object: set, Kind: gvk, Resource: client.StatefulSets.GVR, Selector: selector, View: r.revisions, Name: revisionName(set.Name)}
}

// apply carries a plan out.
func (r *reconciler) apply(ctx context.Context, s *state, p *plan, current *appsv1.ControllerRevision) error {
	set := s.set
	if set.DeletionTimestamp != nil {
		return nil
	}
	var mu sync.Mutex
	var errs []error
	fail := func(err error) {
		if err != nil {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		}
	}
	for _, pod := range p.replicas {
		fail(r.retain(ctx, set, pod, false))
	}
	for _, pod := range p.condemned {
		fail(r.retain(ctx, set, pod, true))
	}
	var g errgroup.Group
	g.SetLimit(podcontrol.Parallel)
	for _, b := range p.create {
		g.Go(func() error {
			fail(r.create(ctx, set, b, current))
			return nil
		})
	}
	for _, pod := range p.delete {
		g.Go(func() error {
			fail(r.delete(ctx, set, pod))
			return nil
		})
	}
	_ = g.Wait()
	for _, pod := range p.fix {
		next := pod.DeepCopy()
		if next.Labels == nil {
			next.Labels = map[string]string{}
		}
		identify(set, next, ordinal(set, pod))
		_, err := client.Pods.Update(ctx, r.client, next)
		fail(err)
	}
	return errors.Join(errs...)
}

func (r *reconciler) create(ctx context.Context, set *appsv1.StatefulSet, b birth, current *appsv1.ControllerRevision) error {
	if err := r.ensureClaims(ctx, set, b.ordinal); err != nil {
		return err
	}
	template := &set.Spec.Template
	if b.revision == current.Name {
		former, err := history.Template(current)
		if err != nil {
			return err
		}
		template = former
	}
	pod := newPod(set, template, b.revision, b.ordinal)
	_, err := client.Pods.Create(ctx, r.client, pod)
	switch {
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("pod %s is there but isn't the set's: %w", pod.Name, err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err != nil:
		r.events.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "Create Pod %s in StatefulSet %s failed error: %s", pod.Name, set.Name, err)
		return err
	}
	r.events.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "Create Pod %s in StatefulSet %s successful", pod.Name, set.Name)
	return nil
}

func (r *reconciler) delete(ctx context.Context, set *appsv1.StatefulSet, pod *corev1.Pod) error {
	err := client.Pods.Delete(ctx, r.client, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		r.events.Eventf(set, corev1.EventTypeWarning, "FailedDelete", "delete Pod %s in StatefulSet %s failed error: %s", pod.Name, set.Name, err)
		return err
	}
	r.events.Eventf(set, corev1.EventTypeNormal, "SuccessfulDelete", "delete Pod %s in StatefulSet %s successful", pod.Name, set.Name)
	return nil
}

// trim removes revisions that no pod has and that are too many.
func (r *reconciler) trim(ctx context.Context, past *history.Owner, set *appsv1.StatefulSet, list []*appsv1.ControllerRevision, pods []*corev1.Pod, current, update *appsv1.ControllerRevision) error {
	if set.Spec.RevisionHistoryLimit == nil {
		return nil
	}
	used := map[string]bool{current.Name: true, update.Name: true}
	for _, pod := range pods {
		used[revisionOf(pod)] = true
	}
	return past.Trim(ctx, list, *set.Spec.RevisionHistoryLimit, func(rev *appsv1.ControllerRevision) bool { return used[rev.Name] })
}
