package disruption

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
)

type reconciler struct {
	client  client.Client
	events  *events.Recorder
	budgets client.TypedView[*policyv1.PodDisruptionBudget]
	pods    client.TypedView[*corev1.Pod]
	owners
}

// owners are the views of what owns pods.
type owners struct {
	controllers client.TypedView[*corev1.ReplicationController]
	deployments client.TypedView[*appsv1.Deployment]
	sets        client.TypedView[*appsv1.ReplicaSet]
	stateful    client.TypedView[*appsv1.StatefulSet]
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("controllermanager")}
	if err := client.Open(ctx, env.Client,
		client.PodDisruptionBudgets.Into(&r.budgets), client.Pods.Into(&r.pods),
		client.ReplicationControllers.Into(&r.controllers), client.Deployments.Into(&r.deployments),
		client.ReplicaSets.Into(&r.sets), client.StatefulSets.Into(&r.stateful),
	); err != nil {
		return controller.Controller{}, err
	}
	byNamespace := r.inNamespace
	return controller.Controller{
		Name: "disruption",
		Inputs: []controller.Input{
			{View: r.budgets.View, Keys: controller.Self},
			{View: r.pods.View, Keys: r.ofPod},
			{View: r.controllers.View, Keys: byNamespace},
			{View: r.deployments.View, Keys: byNamespace},
			{View: r.sets.View, Keys: byNamespace},
			{View: r.stateful.View, Keys: byNamespace},
		},
		Outputs:   []string{"policy/poddisruptionbudgets/status", "pods/status"},
		Reconcile: r.reconcile,
	}, nil
}

// podKey marks keys of pods among those of budgets: no object's name has a slash.
const podKey = "pod/"

// ofPod maps a pod to the budgets that cover it or did, and to itself while it is said to be about to be disrupted.
func (r *reconciler) ofPod(c client.Change) []controller.Key {
	var keys []controller.Key
	for _, b := range r.budgets.List(controller.Self(c)[0].Namespace, nil) {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && (c.New != nil && selector.Matches(c.New.Labels()) || c.Old != nil && selector.Matches(c.Old.Labels())) {
			keys = append(keys, controller.Key{Namespace: b.Namespace, Name: b.Name})
		}
	}
	if c.New != nil && !c.New.Deleting() {
		if _, said := stale(c.New.Object().(*corev1.Pod), time.Now()); said {
			keys = append(keys, controller.Key{Namespace: c.New.Namespace(), Name: podKey + c.New.Name()})
		}
	}
	return keys
}

// inNamespace maps an owner whose spec changed to the budgets around it.
func (r *reconciler) inNamespace(c client.Change) []controller.Key {
	if c.Old != nil && c.New != nil && c.Old.Object().GetGeneration() == c.New.Object().GetGeneration() {
		return nil
	}
	var keys []controller.Key
	for _, it := range r.budgets.View.Items(controller.Self(c)[0].Namespace, nil) {
		keys = append(keys, controller.Key{Namespace: it.Namespace(), Name: it.Name()})
	}
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	if len(key.Name) > len(podKey) && key.Name[:len(podKey)] == podKey {
		return r.reconcilePod(ctx, key.Namespace, key.Name[len(podKey):])
	}
	budget, ok := r.budgets.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		selector = labels.Nothing()
	}
	s := state{budget: budget, pods: r.pods.List(budget.Namespace, selector), scale: r.scale, now: time.Now()}
	if len(s.pods) == 0 {
		r.events.Event(budget, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	count, healthy, unmanaged, err := s.expected()
	if err != nil {
		r.events.Eventf(budget, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		if uerr := r.write(ctx, budget, s.failed(err)); uerr != nil {
			return controller.Again{}, uerr
		}
		return controller.Again{}, err
	}
	if len(unmanaged) > 0 {
		r.events.Eventf(budget, corev1.EventTypeWarning, "UnmanagedPods", "Pods selected by this PodDisruptionBudget (selector: %v) were found to be unmanaged. "+
			"As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "+
			"To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", selector)
	}
	pending, overdue, again := s.disrupted()
	for _, pod := range overdue {
		r.events.Eventf(pod, corev1.EventTypeWarning, "NotDeleted", "Pod was expected by PDB %s/%s to be deleted but it wasn't", budget.Namespace, budget.Name)
	}
	return controller.Again{After: again}, r.write(ctx, budget, s.status(count, healthy, pending))
}

func (r *reconciler) write(ctx context.Context, budget *policyv1.PodDisruptionBudget, status policyv1.PodDisruptionBudgetStatus) error {
	if equality.Semantic.DeepEqual(budget.Status, status) {
		return nil
	}
	next := budget.DeepCopy()
	next.Status = status
	_, err := client.PodDisruptionBudgets.UpdateStatus(ctx, r.client, next)
	return err
}

// reconcilePod takes back what was said about a pod that was not deleted in time.
func (r *reconciler) reconcilePod(ctx context.Context, namespace, name string) (controller.Again, error) {
	pod, ok := r.pods.Get(namespace, name)
	if !ok {
		return controller.Again{}, nil
	}
	left, said := stale(pod, time.Now())
	if !said || left > 0 {
		return controller.Again{After: max(left, 0)}, nil
	}
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status": map[string]any{"conditions": []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse,
			LastTransitionTime: metav1.Now(), ObservedGeneration: pod.Generation}}},
	})
	if err != nil {
		return controller.Again{}, err
	}
	_, err = client.Pods.Patch(ctx, r.client, namespace, name, "status", types.StrategicMergePatchType, data, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return controller.Again{}, nil
	}
	return controller.Again{}, err
}

// scale finds who manages a pod and how many it wants.
func (o *owners) scale(pod *corev1.Pod) (types.UID, int32, bool, error) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return "", 0, false, nil
	}
	switch ref.Kind {
	case "ReplicationController":
		if rc, ok := o.controllers.Get(pod.Namespace, ref.Name); ok && rc.UID == ref.UID {
			return rc.UID, *rc.Spec.Replicas, true, nil
		}
	case "StatefulSet":
		if s, ok := o.stateful.Get(pod.Namespace, ref.Name); ok && s.UID == ref.UID {
			return s.UID, *s.Spec.Replicas, true, nil
		}
	case "ReplicaSet":
		if rs, ok := o.sets.Get(pod.Namespace, ref.Name); ok && rs.UID == ref.UID {
			return o.scaleOfSet(rs)
		}
	}
	return "", 0, false, noController(pod)
}

// scaleOfSet looks through a set at the Deployment that it belongs to.
func (o *owners) scaleOfSet(rs *appsv1.ReplicaSet) (types.UID, int32, bool, error) {
	ref := metav1.GetControllerOfNoCopy(rs)
	if ref == nil {
		return rs.UID, *rs.Spec.Replicas, true, nil
	}
	if ref.Kind != "Deployment" {
		return rs.UID, *rs.Spec.Replicas, true, nil
	}
	d, ok := o.deployments.Get(rs.Namespace, ref.Name)
	if !ok || d.UID != ref.UID {
		return "", 0, false, fmt.Errorf("the Deployment %s of ReplicaSet %s is not there", ref.Name, rs.Name)
	}
	return d.UID, *d.Spec.Replicas, true, nil
}
