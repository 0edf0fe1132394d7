package nodelifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
)

type reconciler struct {
	client client.Client
	events *events.Recorder
	nodes  client.TypedView[*corev1.Node]
	leases client.TypedView[*coordinationv1.Lease]
	pods   client.TypedView[*corev1.Pod]
	zones  zones
	shown  *zoneCollector

	mu    sync.Mutex
	known map[string]*heartbeat
}

// heartbeat is what is remembered of a node. Kubelets' clocks are not trusted: what counts is when a change was seen here.
type heartbeat struct {
	uid      types.UID
	renewed  metav1.MicroTime // the lease's time
	posted   metav1.Time      // the Ready condition's
	seen     time.Time        // when either changed last
	ready    corev1.ConditionStatus
	unmarked bool // its pods are still to be marked as not ready
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("node-controller"), known: map[string]*heartbeat{}}
	if err := client.Open(ctx, env.Client,
		client.Nodes.Into(&r.nodes),
		client.Leases.SelectedInto(&r.leases, client.Selection{Namespace: corev1.NamespaceNodeLease}),
		client.Pods.Into(&r.pods),
	); err != nil {
		return controller.Controller{}, err
	}
	r.shown = newZoneCollector(func() census { return count(r.nodes.List("", nil)) })
	if err := env.Register(r.shown); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "node_lifecycle_controller",
		Inputs: []controller.Input{
			{View: r.nodes.View, Keys: r.ofNode},
			{View: r.leases.View, Keys: func(c client.Change) []controller.Key { return []controller.Key{{Name: controller.Self(c)[0].Name}} }},
			{View: r.pods.View},
		},
		Outputs:   []string{"nodes", "nodes/status", "pods/status"},
		Reconcile: r.reconcile,
	}, nil
}

// ofNode maps a node to itself and, when it became ready or stopped to be, to all that aren't ready: what may be done about them
// depends on how many there are.
func (r *reconciler) ofNode(c client.Change) []controller.Key {
	keys := controller.Self(c)
	if c.Old != nil && c.New != nil && ready(c.Old.Object().(*corev1.Node)) == ready(c.New.Object().(*corev1.Node)) {
		return keys
	}
	for _, n := range r.nodes.List("", nil) {
		if ready(n) != corev1.ConditionTrue {
			keys = append(keys, controller.Key{Name: n.Name})
		}
	}
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	node, ok := r.nodes.Get("", key.Name)
	if !ok {
		r.forget(key.Name)
		return controller.Again{}, nil
	}
	now := time.Now()
	defer func() { r.shown.looks.Observe(time.Since(now).Seconds()) }()
	beat := r.observe(node, now)
	wait := beat.seen.Add(grace(node)).Sub(now)
	var errs []error
	if wait <= 0 {
		fresh, err := r.lose(ctx, node, now)
		if err != nil {
			errs = append(errs, err)
		}
		node, wait = fresh, 0
	}
	errs = append(errs, r.transition(ctx, node, beat))
	exec, after := r.execution(node, now)
	errs = append(errs, r.mark(ctx, node, exec, now))
	if after > 0 && (wait == 0 || after < wait) {
		wait = after
	}
	return controller.Again{After: wait}, errors.Join(errs...)
}

func grace(node *corev1.Node) time.Duration {
	if conditionOf(node, corev1.NodeReady) == nil {
		return startupGracePeriod
	}
	return gracePeriod
}

// observe notes the node's heartbeats and returns a copy of what is known.
func (r *reconciler) observe(node *corev1.Node, now time.Time) *heartbeat {
	r.mu.Lock()
	defer r.mu.Unlock()
	beat := r.known[node.Name]
	if beat == nil || beat.uid != node.UID {
		r.events.Event(about(node), corev1.EventTypeNormal, "RegisteredNode", fmt.Sprintf("Node %s event: Registered Node %s in Controller", node.Name, node.Name))
		beat = &heartbeat{uid: node.UID, seen: now, ready: ready(node)}
		if conditionOf(node, corev1.NodeReady) == nil {
			beat.seen = node.CreationTimestamp.Time
		}
		beat.unmarked = beat.ready == corev1.ConditionUnknown
		r.known[node.Name] = beat
	}
	lease, ok := r.leases.Get(corev1.NamespaceNodeLease, node.Name)
	if ok && lease.Spec.RenewTime != nil && !lease.Spec.RenewTime.Equal(&beat.renewed) {
		if !beat.renewed.IsZero() {
			beat.seen = now
		}
		beat.renewed = *lease.Spec.RenewTime
	}
	if c := conditionOf(node, corev1.NodeReady); c != nil && !c.LastHeartbeatTime.Equal(&beat.posted) {
		if !beat.posted.IsZero() || c.Status != corev1.ConditionUnknown {
			beat.seen = now
		}
		beat.posted = c.LastHeartbeatTime
	}
	copied := *beat
	return &copied
}

func (r *reconciler) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if beat := r.known[name]; beat != nil {
		r.events.Event(&corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: name, UID: beat.uid}, corev1.EventTypeNormal, "RemovingNode",
			fmt.Sprintf("Node %s event: Removing Node %s from Controller", name, name))
		delete(r.known, name)
	}
}

// lose makes the conditions of a silent node unknown.
func (r *reconciler) lose(ctx context.Context, node *corev1.Node, now time.Time) (*corev1.Node, error) {
	conditions, changed := makeUnknown(node, now)
	if !changed {
		return node, nil
	}
	next := node.DeepCopy()
	next.Status.Conditions = conditions
	stored, err := client.Nodes.UpdateStatus(ctx, r.client, next)
	if err != nil {
		return node, fmt.Errorf("make the conditions of %s unknown: %w", node.Name, err)
	}
	return stored, nil
}

// transition marks the pods of a node that has stopped to be ready, once.
func (r *reconciler) transition(ctx context.Context, node *corev1.Node, beat *heartbeat) error {
	now := ready(node)
	unmarked := beat.unmarked
	if beat.ready == corev1.ConditionTrue && now != corev1.ConditionTrue {
		r.events.Event(about(node), corev1.EventTypeNormal, "NodeNotReady", fmt.Sprintf("Node %s status is now: NodeNotReady", node.Name))
		unmarked = true
	}
	unmarked = unmarked && now != corev1.ConditionTrue
	var err error
	if unmarked {
		err = r.markPods(ctx, node.Name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.known[node.Name]; known != nil {
		known.ready, known.unmarked = now, err != nil
	}
	return err
}

// markPods makes the pods of a node not ready: their kubelet can't.
func (r *reconciler) markPods(ctx context.Context, node string) error {
	var errs []error
	for _, pod := range r.pods.ByIndex("spec.nodeName", node) {
		next := pod.DeepCopy()
		for i := range next.Status.Conditions {
			c := &next.Status.Conditions[i]
			if c.Type != corev1.PodReady || c.Status == corev1.ConditionFalse {
				continue
			}
			c.Status, c.LastTransitionTime = corev1.ConditionFalse, metav1.Now()
			_, err := client.Pods.UpdateStatus(ctx, r.client, next)
			if apierrors.IsNotFound(err) {
				break
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("mark pod %s/%s as not ready: %w", pod.Namespace, pod.Name, err))
				break
			}
			r.events.Event(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
		}
	}
	return errors.Join(errs...)
}

// execution decides about the NoExecute taint, and when to decide again.
func (r *reconciler) execution(node *corev1.Node, now time.Time) (execution, time.Duration) {
	if ready(node) == corev1.ConditionTrue || conditionOf(node, corev1.NodeReady) == nil {
		return clear, 0
	}
	c := count(r.nodes.List("", nil))
	if c.lost() {
		return clear, 0 // no node is left that pods could go to
	}
	if _, changed := taints(node, evict, now); !changed || tainted(node) {
		return evict, 0
	}
	ok, after := r.zones.admit(zoneOf(node), c, now)
	if !ok {
		return keep, after
	}
	return evict, 0
}

// tainted tells whether a node is tainted for eviction already; which of the two taints it is may change without asking.
func tainted(node *corev1.Node) bool {
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute && owned(t) {
			return true
		}
	}
	return false
}

// mark writes the node's taints and labels.
func (r *reconciler) mark(ctx context.Context, node *corev1.Node, exec execution, now time.Time) error {
	list, changed := taints(node, exec, now)
	missing := missingLabels(node)
	if !changed && len(missing) == 0 {
		return nil
	}
	patch := map[string]any{"metadata": map[string]any{"resourceVersion": node.ResourceVersion}}
	if changed {
		patch["spec"] = map[string]any{"taints": list}
	}
	if len(missing) > 0 {
		patch["metadata"].(map[string]any)["labels"] = missing
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = client.Nodes.Patch(ctx, r.client, "", node.Name, "", types.MergePatchType, data, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil && exec == evict && !tainted(node) {
		r.shown.evictions.WithLabelValues(zoneOf(node)).Inc()
	}
	return err
}

// about names a node in events as kubelets do.
func about(node *corev1.Node) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID}
}
