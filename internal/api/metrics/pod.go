package metrics

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"clipper.dev/clipper/internal/api"
)

var pods = corev1.SchemeGroupVersion.WithResource("pods")

// Pods is the row of metrics.k8s.io PodMetrics.
var Pods = api.Register(&api.Resource{
	Group:      metricsv1beta1.GroupName,
	Name:       "pods",
	Kind:       "PodMetrics",
	Namespaced: true,
	Versions:   []api.Version{api.Serve[metricsv1beta1.PodMetrics, metricsv1beta1.PodMetricsList]("v1beta1")},
	Verbs:      []string{"get", "list"},
	Observe:    observePods,
	Columns:    columns,
	Cells: api.Print(func(m *metricsv1beta1.PodMetrics, _ api.PrintOptions) []any {
		sum := corev1.ResourceList{}
		for _, c := range m.Containers {
			for name, q := range c.Usage {
				total := sum[name]
				total.Add(q)
				sum[name] = total
			}
		}
		return cells(m.Name, sum, m.Window)
	}),
})

func observePods(ctx context.Context, env api.Env, asked api.Observation) ([]api.Object, error) {
	all, err := chosen(ctx, env.Client(), pods, asked)
	if err != nil {
		return nil, err
	}
	running := slices.DeleteFunc(slices.Clone(all), func(o api.Object) bool {
		pod := o.(*corev1.Pod)
		return pod.Status.Phase != corev1.PodRunning || pod.Spec.NodeName == ""
	})
	var hosts []string
	for _, o := range running {
		hosts = append(hosts, o.(*corev1.Pod).Spec.NodeName)
	}
	slices.Sort(hosts)
	used := env.Usage(ctx, slices.Compact(hosts))
	var out []api.Object
	for _, o := range running {
		pod := o.(*corev1.Pod)
		if m := podMetrics(pod, used[pod.Spec.NodeName].Containers[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}]); m != nil {
			out = append(out, m)
		}
	}
	if asked.Name != "" && len(out) == 0 {
		return nil, apierrors.NewNotFound(metricsv1beta1.Resource("podmetrics"), asked.Namespace+"/"+asked.Name)
	}
	return out, nil
}

// podMetrics tells what a pod's containers use; nil if nothing is known. It is as old as the oldest of its numbers.
func podMetrics(pod *corev1.Pod, used map[string]api.Usage) *metricsv1beta1.PodMetrics {
	if len(used) == 0 {
		return nil
	}
	m := &metricsv1beta1.PodMetrics{ObjectMeta: metaOf(pod)}
	for name, u := range used {
		if m.Timestamp.IsZero() || u.At.Before(m.Timestamp.Time) {
			m.Timestamp, m.Window = metav1.NewTime(u.At), metav1.Duration{Duration: u.Window}
		}
		m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: name, Usage: quantities(u)})
	}
	slices.SortFunc(m.Containers, func(a, b metricsv1beta1.ContainerMetrics) int { return cmp.Compare(a.Name, b.Name) })
	return m
}
