package tainteviction

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

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
	pods   client.TypedView[*corev1.Pod]
	nodes  client.TypedView[*corev1.Node]

	mu     sync.Mutex
	marked map[controller.Key]bool // pods that have been given a time to go
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("taint-eviction-controller"), marked: map[controller.Key]bool{}}
	if err := client.Open(ctx, env.Client, client.Pods.Into(&r.pods), client.Nodes.Into(&r.nodes)); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "taint_eviction_controller",
		Inputs: []controller.Input{
			{View: r.pods.View, Keys: r.ofPod},
			{View: r.nodes.View, Keys: r.ofNode},
		},
		Outputs:   []string{"pods", "pods/status"},
		Reconcile: r.reconcile,
	}, nil
}

// ofPod maps a pod that came to a tainted node.
func (r *reconciler) ofPod(c client.Change) []controller.Key {
	if c.New == nil {
		return controller.Self(c)
	}
	name := c.New.Field("spec.nodeName")
	if name == "" || c.New.Deleting() {
		return nil
	}
	if node, ok := r.nodes.Get("", name); !ok || len(node.Spec.Taints) == 0 {
		return nil
	}
	return controller.Self(c)
}

// ofNode maps a node whose NoExecute taints changed to its pods.
func (r *reconciler) ofNode(c client.Change) []controller.Key {
	if c.New == nil {
		return nil
	}
	var before []corev1.Taint
	if c.Old != nil {
		before = executing(c.Old.Object().(*corev1.Node))
	}
	if slices.EqualFunc(before, executing(c.New.Object().(*corev1.Node)), func(a, b corev1.Taint) bool { return a.Key == b.Key && a.Value == b.Value }) {
		return nil
	}
	var keys []controller.Key
	for _, pod := range r.pods.ByIndex("spec.nodeName", c.New.Name()) {
		keys = append(keys, controller.Key{Namespace: pod.Namespace, Name: pod.Name})
	}
	return keys
}

func executing(node *corev1.Node) []corev1.Taint {
	var out []corev1.Taint
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	pod, ok := r.pods.Get(key.Namespace, key.Name)
	if !ok || pod.DeletionTimestamp != nil || pod.Spec.NodeName == "" {
		r.mark(key, false)
		return controller.Again{}, nil
	}
	node, ok := r.nodes.Get("", pod.Spec.NodeName)
	if !ok {
		return controller.Again{}, nil
	}
	at := deadline(pod, node)
	if at == nil {
		if r.mark(key, false) {
			r.events.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Cancelling deletion of Pod %s/%s", pod.Namespace, pod.Name)
		}
		return controller.Again{}, nil
	}
	if wait := time.Until(*at); wait > 0 {
		r.mark(key, true)
		return controller.Again{After: wait}, nil
	}
	r.events.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", pod.Namespace, pod.Name)
	if err := r.evict(ctx, pod); err != nil && !apierrors.IsNotFound(err) {
		return controller.Again{}, fmt.Errorf("evict: %w", err)
	}
	r.mark(key, false)
	return controller.Again{}, nil
}

// mark remembers that a pod has a time to go, or forgets it, and returns whether it had one.
func (r *reconciler) mark(key controller.Key, now bool) (before bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.marked[key]
	if now {
		r.marked[key] = true
		return before
	}
	delete(r.marked, key)
	return before
}

// evict says on the pod why it goes, and deletes it.
func (r *reconciler) evict(ctx context.Context, pod *corev1.Pod) error {
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager",
			Message: "Taint manager: deleting due to NoExecute taint", LastTransitionTime: metav1.Now(), ObservedGeneration: pod.Generation,
		}}},
	})
	if err != nil {
		return err
	}
	if _, err := client.Pods.Patch(ctx, r.client, pod.Namespace, pod.Name, "status", types.StrategicMergePatchType, data, metav1.PatchOptions{}); err != nil {
		return err
	}
	return client.Pods.Delete(ctx, r.client, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
}
