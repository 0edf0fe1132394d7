package horizontalpodautoscaler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	resourceclient "k8s.io/metrics/pkg/client/clientset/versioned/typed/metrics/v1beta1"
	"k8s.io/metrics/pkg/client/custom_metrics"
	"k8s.io/metrics/pkg/client/external_metrics"
)

// source reads metrics: of pods by the pods' names, in thousandths.
type source interface {
	resource(ctx context.Context, namespace string, selector labels.Selector, name corev1.ResourceName, container string) (map[string]value, error)
	pods(namespace string, selector labels.Selector, metric string, metricSelector labels.Selector) (map[string]value, error)
	object(namespace string, of *autoscalingv2.CrossVersionObjectReference, metric string, metricSelector labels.Selector) (int64, error)
	external(namespace, metric string, selector labels.Selector) ([]int64, error)
}

// sources reads them from metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io.
type sources struct {
	used    resourceclient.MetricsV1beta1Interface
	custom  custom_metrics.CustomMetricsClient
	outside external_metrics.ExternalMetricsClient
}

func newSources(api http.RoundTripper, m *mapper) (*sources, error) {
	cfg := apiConfig(api)
	used, err := resourceclient.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of resource metrics: %w", err)
	}
	outside, err := external_metrics.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of external metrics: %w", err)
	}
	discover, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of discovery: %w", err)
	}
	versions := &customVersions{AvailableAPIsGetter: custom_metrics.NewAvailableAPIsGetter(discover)}
	return &sources{used: used, outside: outside, custom: custom_metrics.NewForConfig(cfg, m, versions)}, nil
}

// customVersions asks again which version of the custom metrics API is served once the answer is as old as a round.
type customVersions struct {
	custom_metrics.AvailableAPIsGetter
	mu    sync.Mutex
	asked time.Time
}

// PreferredVersion implements custom_metrics.AvailableAPIsGetter.
func (v *customVersions) PreferredVersion() (schema.GroupVersion, error) {
	v.mu.Lock()
	if time.Since(v.asked) >= interval {
		v.Invalidate()
		v.asked = time.Now()
	}
	v.mu.Unlock()
	return v.AvailableAPIsGetter.PreferredVersion()
}

func (s *sources) resource(ctx context.Context, namespace string, selector labels.Selector, name corev1.ResourceName, container string) (map[string]value, error) {
	list, err := s.used.PodMetricses(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from resource metrics API")
	}
	out := make(map[string]value, len(list.Items))
	for i := range list.Items {
		m := &list.Items[i]
		if milli, ok := usedBy(m, name, container); ok {
			out[m.Name] = value{milli, m.Timestamp.Time, m.Window.Duration}
		}
	}
	return out, nil
}

// usedBy is what a pod's containers use, or the one of that name; false if that isn't known of all of them.
func usedBy(m *metricsv1beta1.PodMetrics, name corev1.ResourceName, container string) (int64, bool) {
	total, found := int64(0), false
	for i := range m.Containers {
		c := &m.Containers[i]
		if container != "" && c.Name != container {
			continue
		}
		q, ok := c.Usage[name]
		if !ok {
			return 0, false
		}
		total, found = total+q.MilliValue(), true
	}
	return total, found
}

func (s *sources) pods(namespace string, selector labels.Selector, metric string, metricSelector labels.Selector) (map[string]value, error) {
	list, err := s.custom.NamespacedMetrics(namespace).GetForObjects(schema.GroupKind{Kind: "Pod"}, selector, metric, metricSelector)
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from custom metrics API")
	}
	out := make(map[string]value, len(list.Items))
	for i := range list.Items {
		m := &list.Items[i]
		window := defaultMetricWindow
		if m.WindowSeconds != nil {
			window = time.Duration(*m.WindowSeconds) * time.Second
		}
		out[m.DescribedObject.Name] = value{m.Value.MilliValue(), m.Timestamp.Time, window}
	}
	return out, nil
}

func (s *sources) object(namespace string, of *autoscalingv2.CrossVersionObjectReference, metric string, metricSelector labels.Selector) (int64, error) {
	kind := schema.FromAPIVersionAndKind(of.APIVersion, of.Kind).GroupKind()
	metrics, name := s.custom.NamespacedMetrics(namespace), of.Name
	if kind.Kind == "Namespace" && kind.Group == "" {
		metrics, name = s.custom.RootScopedMetrics(), namespace // its own namespace, whatever the name: nobody reads another's
	}
	m, err := metrics.GetForObject(kind, name, metric, metricSelector)
	if err != nil {
		return 0, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	return m.Value.MilliValue(), nil
}

func (s *sources) external(namespace, metric string, selector labels.Selector) ([]int64, error) {
	list, err := s.outside.NamespacedMetrics(namespace).List(metric, selector)
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from external metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from external metrics API")
	}
	out := make([]int64, len(list.Items))
	for i := range list.Items {
		out[i] = list.Items[i].Value.MilliValue()
	}
	return out, nil
}
