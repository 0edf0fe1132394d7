package tainteviction

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

type reconciler struct {
	client client.Client
	events *events.Recorder
	pods   client.TypedView[*corev1.Pod]
	nodes  client.TypedView[*corev1.Node]
	marks  podcontrol.Marks

	evicted prometheus.Counter
	late    prometheus.Histogram
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{client: env.Client, events: env.Events("taint-eviction-controller"),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{Name: "taint_eviction_controller_pod_deletions_total",
			Help: "Total number of Pods deleted by TaintEvictionController since its start."}),
		late: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "taint_eviction_controller_pod_deletion_duration_seconds",
			Help:    "Latency, in seconds, between the time when a taint effect has been activated for the Pod and its deletion via TaintEvictionController.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 30, 60, 120, 180, 240}}),
	}
	if err := env.Register(r.evicted, r.late); err != nil {
		return controller.Controller{}, err
	}
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
		r.marks.Set(key, false)
		return controller.Again{}, nil
	}
	node, ok := r.nodes.Get("", pod.Spec.NodeName)
	if !ok {
		return controller.Again{}, nil
	}
	at := deadline(pod, node)
	if at == nil {
		if r.marks.Set(key, false) {
			r.events.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Cancelling deletion of Pod %s/%s", pod.Namespace, pod.Name)
		}
		return controller.Again{}, nil
	}
	if wait := time.Until(*at); wait > 0 {
		r.marks.Set(key, true)
		return controller.Again{After: wait}, nil
	}
	r.events.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", pod.Namespace, pod.Name)
	if err := podcontrol.Evict(ctx, r.client, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"); err != nil {
		return controller.Again{}, err
	}
	r.evicted.Inc()
	r.late.Observe(time.Since(*at).Seconds())
	r.marks.Set(key, false)
	return controller.Again{}, nil
}
