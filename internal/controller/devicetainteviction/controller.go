package devicetainteviction

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
	"clipper.dev/clipper/internal/controller/podcontrol"
)

type reconciler struct {
	client  client.Client
	events  *events.Recorder
	metrics metrics
	pods    client.TypedView[*corev1.Pod]
	claims  client.TypedView[*resourcev1.ResourceClaim]
	slices  client.TypedView[*resourcev1.ResourceSlice]
	marks   podcontrol.Marks

	mu    sync.Mutex
	pools map[poolID]map[string]*resourcev1.ResourceSlice // by name; as told by changes
}

// New makes the controller.
func New(ctx context.Context, env controller.Env) (controller.Controller, error) {
	r := &reconciler{
		client: env.Client, events: env.Events("device-taint-eviction-controller"), metrics: newMetrics(),
		pools: map[poolID]map[string]*resourcev1.ResourceSlice{},
	}
	for _, m := range []prometheus.Collector{r.metrics.deletions, r.metrics.latency} {
		if err := env.Register(m); err != nil {
			return controller.Controller{}, err
		}
	}
	err := client.Open(ctx, env.Client, client.Pods.Into(&r.pods), client.ResourceClaims.Into(&r.claims), client.ResourceSlices.Into(&r.slices))
	if err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "device_taint_eviction_controller",
		Inputs: []controller.Input{
			{View: r.pods.View, Keys: ofPod},
			{View: r.claims.View, Keys: ofClaim},
			{View: r.slices.View, Keys: r.ofSlice},
		},
		Outputs:   []string{"pods", "pods/status"},
		Reconcile: r.reconcile,
	}, nil
}

// ofPod maps a pod that has claims and a node.
func ofPod(c client.Change) []controller.Key {
	if c.New == nil {
		return controller.Self(c)
	}
	if c.New.Field("spec.nodeName") == "" || c.New.Deleting() || len(c.New.Object().(*corev1.Pod).Spec.ResourceClaims) == 0 {
		return nil
	}
	return controller.Self(c)
}

// ofClaim maps a claim to those that have reserved it.
func ofClaim(c client.Change) []controller.Key {
	var keys []controller.Key
	for _, it := range []client.Item{c.Old, c.New} {
		if it != nil {
			keys = append(keys, consumers(it.Object().(*resourcev1.ResourceClaim))...)
		}
	}
	return keys
}

func consumers(claim *resourcev1.ResourceClaim) []controller.Key {
	var keys []controller.Key
	for _, ref := range claim.Status.ReservedFor {
		if ref.APIGroup == "" && ref.Resource == "pods" {
			keys = append(keys, controller.Key{Namespace: claim.Namespace, Name: ref.Name})
		}
	}
	return keys
}

// ofSlice maps a slice whose taints changed to those that use devices of its pool.
func (r *reconciler) ofSlice(c client.Change) []controller.Key {
	before, after := r.take(c)
	if equality.Semantic.DeepEqual(before, after) {
		return nil
	}
	slice := either(c).Object().(*resourcev1.ResourceSlice)
	var keys []controller.Key
	for _, claim := range r.claims.List("", nil) {
		if claim.Status.Allocation == nil {
			continue
		}
		for i := range claim.Status.Allocation.Devices.Results {
			if result := &claim.Status.Allocation.Devices.Results[i]; (poolID{result.Driver, result.Pool}) == poolOf(slice) {
				keys = append(keys, consumers(claim)...)
				break
			}
		}
	}
	return keys
}

// take notes a changed slice and returns the evicting taints of its pool's devices before and after.
func (r *reconciler) take(c client.Change) (before, after map[string][]resourcev1.DeviceTaint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slice := either(c).Object().(*resourcev1.ResourceSlice)
	id := poolOf(slice)
	before = tainted(r.pools[id])
	if c.Old != nil {
		old := poolOf(c.Old.Object().(*resourcev1.ResourceSlice))
		if delete(r.pools[old], slice.Name); len(r.pools[old]) == 0 {
			delete(r.pools, old)
		}
	}
	if c.New != nil {
		if r.pools[id] == nil {
			r.pools[id] = map[string]*resourcev1.ResourceSlice{}
		}
		r.pools[id][slice.Name] = slice
	}
	return before, tainted(r.pools[id])
}

func either(c client.Change) client.Item {
	if c.New != nil {
		return c.New
	}
	return c.Old
}

// tainted lists the devices with taints that evict.
func tainted(pool map[string]*resourcev1.ResourceSlice) map[string][]resourcev1.DeviceTaint {
	var latest int64
	for _, s := range pool {
		latest = max(latest, s.Spec.Pool.Generation)
	}
	out := map[string][]resourcev1.DeviceTaint{}
	for _, s := range pool {
		for i := range s.Spec.Devices {
			if t := evicting(s.Spec.Devices[i].Taints); len(t) > 0 && s.Spec.Pool.Generation == latest {
				out[s.Spec.Devices[i].Name] = t
			}
		}
	}
	return out
}

func (r *reconciler) pool(id poolID) []*resourcev1.ResourceSlice {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*resourcev1.ResourceSlice, 0, len(r.pools[id]))
	for _, s := range r.pools[id] {
		out = append(out, s)
	}
	return out
}

func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	pod, ok := r.pods.Get(key.Namespace, key.Name)
	if !ok || pod.DeletionTimestamp != nil || pod.Spec.NodeName == "" {
		r.marks.Set(key, false)
		return controller.Again{}, nil
	}
	claim := func(name string) *resourcev1.ResourceClaim {
		c, _ := r.claims.Get(pod.Namespace, name)
		return c
	}
	at := podDeadline(pod, claim, r.pool)
	if at == nil {
		if r.marks.Set(key, false) {
			r.events.Event(pod, corev1.EventTypeNormal, "DeviceTaintManagerEviction", "Cancelling deletion")
		}
		return controller.Again{}, nil
	}
	if wait := time.Until(*at); wait > 0 {
		r.marks.Set(key, true)
		return controller.Again{After: wait}, nil
	}
	r.events.Event(pod, corev1.EventTypeNormal, "DeviceTaintManagerEviction", "Marking for deletion")
	if err := podcontrol.Evict(ctx, r.client, pod, "DeletionByDeviceTaintManager", "Device Taint manager: deleting due to NoExecute taint"); err != nil {
		return controller.Again{}, err
	}
	r.metrics.deletions.Inc()
	r.metrics.latency.Observe(time.Since(*at).Seconds())
	r.marks.Set(key, false)
	return controller.Again{}, nil
}

// metrics are upstream's, by name.
type metrics struct {
	deletions prometheus.Counter
	latency   prometheus.Histogram
}

func newMetrics() metrics {
	return metrics{
		deletions: prometheus.NewCounter(prometheus.CounterOpts{Name: "device_taint_eviction_controller_pod_deletions_total",
			Help: "Total number of Pods deleted by DeviceTaintEvictionController since its start."}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "device_taint_eviction_controller_pod_deletion_duration_seconds",
			Help:    "Latency, in seconds, between the time when a device taint effect has been activated and a Pod's deletion via DeviceTaintEvictionController.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 30, 60, 120, 180, 240}}),
	}
}
