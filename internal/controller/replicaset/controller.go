package replicaset

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/claim"
	"clipper.dev/clipper/internal/controller/podcontrol"
	"clipper.dev/clipper/internal/store"
)

// New makes the controller for ReplicaSets.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	return newFor(ctx, env, replicaSets)
}

// NewReplicationController makes the controller for ReplicationControllers.
func NewReplicationController(ctx context.Context, env controller.Env) (controller.Controller, error) {
	return newFor(ctx, env, replicationControllers)
}

type reconciler struct {
	kind
	client client.Client
	pods   podcontrol.Control
	sets   client.View
	view   client.TypedView[*corev1.Pod]
	ages   prometheus.Histogram
}

func newFor(ctx context.Context, env controller.Env, k kind) (controller.Controller, error) {
	sets, err := env.Client.View(ctx, k.gvr, client.Selection{})
	if err != nil {
		return controller.Controller{}, err
	}
	view, err := client.Pods.View(ctx, env.Client, client.Selection{})
	if err != nil {
		return controller.Controller{}, err
	}
	r := &reconciler{kind: k, client: env.Client, pods: podcontrol.Control{Client: env.Client, Events: env.Events(k.component)}, sets: sets, view: view, ages: newAges()}
	if k.gvk.Kind == replicaSets.gvk.Kind { // it is about ReplicaSets by its name
		if err := env.Register(r.ages); err != nil {
			return controller.Controller{}, err
		}
	}
	return controller.Controller{
		Name: k.name,
		Inputs: []controller.Input{
			{View: sets, Keys: controller.Self},
			{View: view.View, Keys: claim.Keys(k.gvk.Kind, client.TypedView[client.Object]{View: sets}, r.selectorOf)},
		},
		Outputs:   []string{"pods", k.output},
		Reconcile: r.reconcile,
	}, nil
}

func (r *reconciler) selectorOf(o client.Object) *metav1.LabelSelector {
	return r.read(o).Spec.Selector
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	object, ok := r.sets.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	rs := r.read(object)
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return controller.Again{}, nil // validation lets no such set in; there is nothing to retry
	}
	claimer := claim.Claimer[*corev1.Pod]{Client: r.client, Kind: client.Pods, Owner: object, OwnerKind: r.gvk, OwnerGVR: r.gvr, Selector: selector}
	candidates := claimer.Candidates(r.view)
	active, err := claimer.Claim(ctx, podcontrol.Filter(candidates, podcontrol.Active))
	if err != nil {
		return controller.Again{}, err
	}
	var acted error
	if rs.DeletionTimestamp == nil {
		acted = r.act(ctx, object, rs, active)
	}
	terminating := len(podcontrol.Filter(candidates, func(p *corev1.Pod) bool {
		return podcontrol.Terminating(p) && metav1.IsControlledBy(p, rs)
	}))
	status, next := makeStatus(rs, active, terminating, acted, time.Now())
	if r.gvk.Kind == replicationControllers.gvk.Kind {
		status.TerminatingReplicas = nil // its status has no such field
	}
	if statusChanged(&rs.Status, &status) {
		// Sharing the rest with the cached object is fine: the client only reads it.
		if err := r.write(ctx, r.client, &appsv1.ReplicaSet{TypeMeta: rs.TypeMeta, ObjectMeta: rs.ObjectMeta, Spec: rs.Spec, Status: status}); err != nil {
			return controller.Again{}, err
		}
	}
	return controller.Again{After: next}, acted
}

// act carries the plan out. What it changes is counted once the views show it, by the next reconciliation.
func (r *reconciler) act(ctx context.Context, object client.Object, rs *appsv1.ReplicaSet, active []*corev1.Pod) error {
	var related []*corev1.Pod
	if len(active) > int(*rs.Spec.Replicas) {
		related = r.related(rs)
	}
	p := makePlan(*rs.Spec.Replicas, active, related, time.Now())
	ref := metav1.NewControllerRef(object, r.gvk)
	about := r.reference(object)
	if p.create > 0 {
		_, err := podcontrol.SlowStart(p.create, func(int) error {
			_, err := r.pods.Create(ctx, about, podcontrol.FromTemplate(&rs.Spec.Template, rs.Namespace, rs.Name, ref))
			if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				return nil // the set goes with its namespace
			}
			return err
		})
		return err
	}
	for _, ratio := range ageRatios(active, p.delete, time.Now()) {
		r.ages.Observe(ratio)
	}
	return r.pods.DeleteAll(ctx, about, p.delete)
}

func (r *reconciler) reference(o client.Object) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: r.gvk.Kind, APIVersion: r.gvk.GroupVersion().String(), Namespace: o.GetNamespace(),
		Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion()}
}

// related returns the pods of all sets with the same owner: the revisions of one Deployment.
func (r *reconciler) related(rs *appsv1.ReplicaSet) []*corev1.Pod {
	owner := metav1.GetControllerOfNoCopy(rs)
	if owner == nil {
		return nil
	}
	seen := map[types.UID]bool{}
	var out []*corev1.Pod
	for _, set := range r.sets.ByIndex(store.OwnerIndex, string(owner.UID)) {
		for _, p := range r.view.ByIndex(store.OwnerIndex, string(set.GetUID())) {
			if !seen[p.UID] {
				seen[p.UID] = true
				out = append(out, p)
			}
		}
	}
	return out
}
