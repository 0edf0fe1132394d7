package podgc

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

// Upstream's defaults.
const (
	keepEnded   = 12500
	quarantine  = 40 * time.Second // a node must be missing for so long before its pods are removed
	countPeriod = 20 * time.Second // the pods that have ended are counted that often at most
)

// ended is the key under which the pods that have ended are counted. No namespace has that name.
var ended = controller.Key{Namespace: "/", Name: "ended"}

type reconciler struct {
	client  client.Client
	metrics metrics
	pods    client.TypedView[*corev1.Pod]
	nodes   client.TypedView[*corev1.Node]

	mu      sync.Mutex
	missing map[string]time.Time // nodes that pods name and that aren't there, since when
	counted time.Time
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, missing: map[string]time.Time{}, metrics: newMetrics()}
	if err := env.Register(r.metrics.removed, r.metrics.failed); err != nil {
		return controller.Controller{}, err
	}
	if err := client.Open(ctx, env.Client, client.Pods.Into(&r.pods), client.Nodes.Into(&r.nodes)); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "pod_garbage_collector",
		Inputs: []controller.Input{
			{View: r.pods.View, Keys: r.ofPod},
			{View: r.nodes.View, Keys: r.ofNode},
		},
		Outputs:   []string{"pods", "pods/status"},
		Reconcile: r.reconcile,
	}, nil
}

func (r *reconciler) ofPod(c client.Change) []controller.Key {
	if c.New == nil {
		return nil
	}
	var keys []controller.Key
	if phase := c.New.Field("status.phase"); (phase == string(corev1.PodSucceeded) || phase == string(corev1.PodFailed)) && (c.Old == nil || c.Old.Field("status.phase") != phase) {
		keys = append(keys, ended)
	}
	node := c.New.Field("spec.nodeName")
	if _, known := client.Lookup(r.nodes.View, "", node); c.New.Deleting() || node != "" && !known {
		keys = append(keys, controller.Self(c)...)
	}
	return keys
}

// ofNode maps a node that has gone, or that was declared out of service, to its pods.
func (r *reconciler) ofNode(c client.Change) []controller.Key {
	if c.New != nil {
		r.mu.Lock()
		delete(r.missing, c.New.Name())
		r.mu.Unlock()
		if !outOfService(c.New.Object().(*corev1.Node)) {
			return nil
		}
	}
	var keys []controller.Key
	for _, pod := range r.pods.ByIndex("spec.nodeName", controller.Self(c)[0].Name) {
		keys = append(keys, controller.Key{Namespace: pod.Namespace, Name: pod.Name})
	}
	return keys
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	if key == ended {
		return r.trim(ctx)
	}
	pod, ok := r.pods.Get(key.Namespace, key.Name)
	if !ok {
		return controller.Again{}, nil
	}
	node, _ := r.nodes.Get("", pod.Spec.NodeName)
	v := judge(pod, node)
	switch v {
	case keep:
		return controller.Again{}, nil
	case orphaned:
		if wait := r.quarantine(pod.Spec.NodeName, time.Now()); wait > 0 {
			return controller.Again{After: wait}, nil
		}
		_, err := client.Nodes.Get(ctx, r.client, "", pod.Spec.NodeName)
		if err == nil {
			return controller.Again{}, nil // it has just come
		}
		if !apierrors.IsNotFound(err) {
			return controller.Again{}, err
		}
	}
	err := r.remove(ctx, pod, v.lost(pod))
	r.metrics.count(pod.Namespace, reasons[v], err)
	if err == nil && v == orphaned && len(r.pods.ByIndex("spec.nodeName", pod.Spec.NodeName)) <= 1 {
		r.mu.Lock()
		delete(r.missing, pod.Spec.NodeName)
		r.mu.Unlock()
	}
	return controller.Again{}, err
}

// quarantine returns how much longer a node must be missing.
func (r *reconciler) quarantine(node string, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	since, ok := r.missing[node]
	if !ok {
		r.missing[node] = now
		return quarantine
	}
	return since.Add(quarantine).Sub(now)
}

// trim removes the pods that have ended and are too many.
func (r *reconciler) trim(ctx context.Context) (controller.Again, error) {
	r.mu.Lock()
	wait := time.Until(r.counted.Add(countPeriod))
	if wait <= 0 {
		r.counted = time.Now()
	}
	r.mu.Unlock()
	if wait > 0 {
		return controller.Again{After: wait}, nil
	}
	var items []client.Item
	for _, it := range r.pods.View.Items("", nil) {
		if phase := it.Field("status.phase"); phase == string(corev1.PodSucceeded) || phase == string(corev1.PodFailed) {
			items = append(items, it)
		}
	}
	if len(items) <= keepEnded {
		return controller.Again{}, nil
	}
	var pods []*corev1.Pod
	for _, it := range items {
		if pod := it.Object().(*corev1.Pod); podcontrol.Terminal(pod) {
			pods = append(pods, pod)
		}
	}
	for _, pod := range excess(pods, keepEnded) {
		err := r.remove(ctx, pod, "")
		r.metrics.count(pod.Namespace, reasonEnded, err)
		if err != nil {
			return controller.Again{}, err
		}
	}
	return controller.Again{}, nil
}

// remove deletes a pod without grace. One that never ended is marked as failed before, since who waits for its end (a Job) would
// wait for ever; message says why, if there is something to say.
func (r *reconciler) remove(ctx context.Context, pod *corev1.Pod, message string) error {
	if !podcontrol.Terminal(pod) {
		status := map[string]any{"phase": corev1.PodFailed}
		if message != "" {
			status["conditions"] = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC", Message: message,
				LastTransitionTime: metav1.Now(), ObservedGeneration: pod.Generation}}
		}
		data, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
		if err != nil {
			return err
		}
		_, err = client.Pods.Patch(ctx, r.client, pod.Namespace, pod.Name, "status", types.StrategicMergePatchType, data, metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("mark pod %s/%s as failed: %w", pod.Namespace, pod.Name, err)
		}
	}
	err := client.Pods.Delete(ctx, r.client, pod.Namespace, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
