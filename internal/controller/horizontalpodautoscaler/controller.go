package horizontalpodautoscaler

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/client/events"
	"clipper.dev/clipper/internal/controller"
)

// The defaults of kube-controller-manager.
const (
	interval            = 15 * time.Second
	downscaleWindow     = 5 * time.Minute
	defaultTolerance    = 0.1
	cpuInitialization   = 5 * time.Minute
	initialReadiness    = 30 * time.Second
	defaultMetricWindow = time.Minute
)

const account = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"

type reconciler struct {
	client      client.Client
	events      *events.Recorder
	logger      *slog.Logger
	autoscalers client.TypedView[*autoscalingv2.HorizontalPodAutoscaler]
	pods        client.TypedView[*corev1.Pod]
	scales      *scales
	sources     source
	metrics     *metrics

	mu        sync.Mutex
	histories map[controller.Key]*history
	selectors map[controller.Key]labels.Selector
}

// Constructor makes the controller. API returns a transport that reaches the API as a user.
func Constructor(api func(user string) http.RoundTripper) controller.Constructor {
	return controller.Constructor{
		Name: "horizontal-pod-autoscaler", User: account,
		New: func(ctx context.Context, env controller.Env) (controller.Controller, error) {
			return newController(ctx, env, api(account))
		},
	}
}

func newController(ctx context.Context, env controller.Env, api http.RoundTripper) (controller.Controller, error) {
	r := &reconciler{
		client: env.Client, events: env.Events("horizontal-pod-autoscaler"), logger: env.Logger, metrics: newMetrics(),
		histories: map[controller.Key]*history{}, selectors: map[controller.Key]labels.Selector{},
	}
	if err := client.Open(ctx, env.Client, client.HorizontalPodAutoscalers.Into(&r.autoscalers), client.Pods.Into(&r.pods)); err != nil {
		return controller.Controller{}, err
	}
	mapper := newMapper(ctx, env.Client)
	var err error
	if r.scales, err = newScales(api, mapper); err != nil {
		return controller.Controller{}, err
	}
	if r.sources, err = newSources(api, mapper); err != nil {
		return controller.Controller{}, err
	}
	if err := env.Register(r.metrics); err != nil {
		return controller.Controller{}, err
	}
	return controller.Controller{
		Name: "horizontal-pod-autoscaler",
		Inputs: []controller.Input{
			{View: r.autoscalers.View, Keys: changed},
			{View: r.pods.View},
		},
		Outputs:   []string{"*/scale", "autoscaling/horizontalpodautoscalers/status"},
		Reconcile: r.reconcile,
	}, nil
}

// changed maps an autoscaler to its key unless its status alone is another one: how often it's looked at is decided by the interval.
func changed(c client.Change) []controller.Key {
	if c.Old != nil && c.New != nil {
		before, ok := c.Old.Object().(*autoscalingv2.HorizontalPodAutoscaler)
		now, also := c.New.Object().(*autoscalingv2.HorizontalPodAutoscaler)
		if ok && also && before.UID == now.UID && apiequality.Semantic.DeepEqual(&before.Spec, &now.Spec) {
			return nil
		}
	}
	return controller.Self(c)
}

// reconcile does one round for an autoscaler. What fails is told by its conditions and events and tried again in the next round.
func (r *reconciler) reconcile(ctx context.Context, key controller.Key) (controller.Again, error) {
	hpa, ok := r.autoscalers.Get(key.Namespace, key.Name)
	if !ok {
		r.forget(key)
		return controller.Again{}, nil
	}
	began := time.Now()
	one := &round{reconciler: r, key: key, hpa: hpa.DeepCopy(), before: &hpa.Status, history: r.remember(key)}
	err := one.run(ctx)
	r.metrics.reconciled(one.action, err, time.Since(began))
	if err != nil && ctx.Err() == nil {
		r.logger.Warn("a workload isn't scaled", "autoscaler", key, "error", err)
	}
	return controller.Again{After: interval}, nil
}

// remember returns what is known of an autoscaler. Until its target's selector is known it selects nothing.
func (r *reconciler) remember(key controller.Key) *history {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.histories[key]
	if h == nil {
		h = &history{}
		r.histories[key], r.selectors[key] = h, labels.Nothing()
		r.metrics.count.Set(float64(len(r.histories)))
	}
	return h
}

func (r *reconciler) forget(key controller.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.histories, key)
	delete(r.selectors, key)
	r.metrics.count.Set(float64(len(r.histories)))
	r.metrics.desired.DeleteLabelValues(key.Namespace, key.Name)
}

// selecting notes an autoscaler's selector and returns the autoscalers that select one of these pods.
func (r *reconciler) selecting(key controller.Key, selector labels.Selector, pods []*corev1.Pod) []controller.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.selectors[key] = selector
	var out []controller.Key
	for other, s := range r.selectors {
		if other.Namespace != key.Namespace {
			continue
		}
		for _, pod := range pods {
			if s.Matches(labels.Set(pod.Labels)) {
				out = append(out, other)
				break
			}
		}
	}
	return out
}
