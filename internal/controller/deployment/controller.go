package deployment

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/claim"
	"clipper.dev/clipper/internal/controller/podcontrol"
	"clipper.dev/clipper/internal/store"
)

type reconciler struct {
	client      client.Client
	events      *events.Recorder
	deployments client.TypedView[*appsv1.Deployment]
	sets        client.TypedView[*appsv1.ReplicaSet]
	pods        client.TypedView[*corev1.Pod]
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("deployment-controller")}
	if err := client.Open(ctx, env.Client,
		client.Deployments.Into(&r.deployments), client.ReplicaSets.Into(&r.sets), client.Pods.Into(&r.pods),
	); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "deployment",
		Inputs: []controller.Input{
			{View: r.deployments.View, Keys: controller.Self},
			{View: r.sets.View, Keys: claim.Keys("Deployment", r.deployments, selectorOf)},
			{View: r.pods.View, Keys: r.ofPod},
		},
		Outputs:   []string{"apps/replicasets", "apps/deployments/status"},
		Reconcile: r.reconcile,
	}, nil
}

func selectorOf(d *appsv1.Deployment) *metav1.LabelSelector { return d.Spec.Selector }

// ofPod maps a pod that has gone, or that was marked for deletion, to a Deployment that recreates: the last one lets the new ones start.
func (r *reconciler) ofPod(c client.Change) []controller.Key {
	if c.Old == nil || c.New != nil && !c.New.Deleting() {
		return nil
	}
	owner := controller.ControllerRef(c.Old.Owners())
	if owner == nil || owner.Kind != "ReplicaSet" {
		return nil
	}
	set, ok := r.sets.Get(c.Old.Namespace(), owner.Name)
	if !ok {
		return nil
	}
	ref := metav1.GetControllerOfNoCopy(set)
	if ref == nil {
		return nil
	}
	d, ok := r.deployments.Get(set.Namespace, ref.Name)
	if !ok || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return nil
	}
	return []controller.Key{{Namespace: d.Namespace, Name: d.Name}}
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	d, ok := r.deployments.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return controller.Again{}, nil // validation lets no such selector in; there is nothing to retry
	}
	if selector.Empty() {
		r.events.Event(d, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
		return controller.Again{}, r.observe(ctx, d)
	}
	claimer := claim.Claimer[*appsv1.ReplicaSet]{Client: r.client, Kind: client.ReplicaSets, Owner: d, Selector: selector,
		OwnerKind: appsv1.SchemeGroupVersion.WithKind("Deployment"), OwnerGVR: client.Deployments.GVR}
	sets, err := claimer.Claim(ctx, claimer.Candidates(r.sets))
	if err != nil {
		return controller.Again{}, err
	}
	p := makePlan(state{deployment: d, sets: sets, running: func(except types.UID) bool { return r.running(sets, except) }, now: time.Now()})
	if err := r.apply(ctx, d, &p); err != nil {
		return controller.Again{}, err
	}
	return controller.Again{After: p.again}, nil
}

// observe notes the generation alone.
func (r *reconciler) observe(ctx context.Context, d *appsv1.Deployment) error {
	if d.Status.ObservedGeneration >= d.Generation {
		return nil
	}
	d = d.DeepCopy()
	d.Status.ObservedGeneration = d.Generation
	_, err := client.Deployments.UpdateStatus(ctx, r.client, d)
	return err
}

// running tells whether pods of sets other than one have not ended yet.
func (r *reconciler) running(sets []*appsv1.ReplicaSet, except types.UID) bool {
	for _, set := range sets {
		if set.UID == except {
			continue
		}
		for _, p := range r.pods.ByIndex(store.OwnerIndex, string(set.UID)) {
			if !podcontrol.Terminal(p) {
				return true
			}
		}
	}
	return false
}

// apply writes what the plan wants.
func (r *reconciler) apply(ctx context.Context, d *appsv1.Deployment, p *plan) error {
	if p.create != nil {
		if err := r.create(ctx, d, p); err != nil {
			return err
		}
	}
	for _, u := range p.update {
		if _, err := client.ReplicaSets.Update(ctx, r.client, u.set); err != nil {
			return fmt.Errorf("scale replica set %s: %w", u.set.Name, err)
		}
		if to := *u.set.Spec.Replicas; to != u.from {
			r.scaled(d, u.set.Name, u.from, to)
		}
	}
	for _, set := range p.delete {
		err := client.ReplicaSets.Delete(ctx, r.client, set.Namespace, set.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(set.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete old replica set %s: %w", set.Name, err)
		}
	}
	if !changed(d, p.deployment) {
		return nil
	}
	_, err := client.Deployments.UpdateStatus(ctx, r.client, p.deployment)
	return err
}

func (r *reconciler) scaled(d *appsv1.Deployment, set string, from, to int32) {
	direction := "up"
	if to < from {
		direction = "down"
	}
	r.events.Eventf(d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, set, from, to)
}

// create makes the new set. If another set has its name already, the next attempt is made under another hash.
func (r *reconciler) create(ctx context.Context, d *appsv1.Deployment, p *plan) error {
	_, err := client.ReplicaSets.Create(ctx, r.client, p.create)
	switch {
	case err == nil:
		if size := *p.create.Spec.Replicas; size > 0 {
			r.scaled(d, p.create.Name, 0, size)
		}
		return nil
	case apierrors.IsAlreadyExists(err):
		return r.collision(ctx, d, p, err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return err
	}
	message := fmt.Sprintf("Failed to create new replica set %q: %v", p.create.Name, err)
	r.events.Event(d, corev1.EventTypeWarning, reasonCreateError, message)
	if d.Spec.ProgressDeadlineSeconds != nil {
		failed := newRollout(state{deployment: d, now: time.Now()})
		failed.setCondition(&failed.d.Status, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonCreateError, message)
		if changed(d, failed.d) {
			if _, serr := client.Deployments.UpdateStatus(ctx, r.client, failed.d); serr != nil {
				return fmt.Errorf("%w (and note it: %w)", err, serr)
			}
		}
	}
	return err
}

// collision looks at who has the name: the set itself, which a slow view doesn't show yet, or a foreign one.
func (r *reconciler) collision(ctx context.Context, d *appsv1.Deployment, p *plan, cause error) error {
	there, err := client.ReplicaSets.Get(ctx, r.client, p.create.Namespace, p.create.Name)
	if err != nil {
		return err
	}
	if metav1.IsControlledBy(there, d) && sameTemplate(&d.Spec.Template, &there.Spec.Template) {
		return nil
	}
	next := d.DeepCopy()
	if next.Status.CollisionCount == nil {
		next.Status.CollisionCount = new(int32)
	}
	*next.Status.CollisionCount++
	if _, err := client.Deployments.UpdateStatus(ctx, r.client, next); err != nil {
		return err
	}
	return cause
}
