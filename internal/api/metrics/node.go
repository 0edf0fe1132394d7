package metrics

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"clipper.dev/clipper/internal/api"
)

var nodes = corev1.SchemeGroupVersion.WithResource("nodes")

// Nodes is the row of metrics.k8s.io NodeMetrics.
var Nodes = api.Register(&api.Resource{
	Group:    metricsv1beta1.GroupName,
	Name:     "nodes",
	Kind:     "NodeMetrics",
	Versions: []api.Version{api.Serve[metricsv1beta1.NodeMetrics, metricsv1beta1.NodeMetricsList]("v1beta1")},
	Verbs:    []string{"get", "list"},
	Observe:  observeNodes,
	Columns:  columns,
	Cells: api.Print(func(m *metricsv1beta1.NodeMetrics, _ api.PrintOptions) []any {
		return cells(m.Name, m.Usage, m.Window)
	}),
})

func observeNodes(ctx context.Context, env api.Env, asked api.Observation) ([]api.Object, error) {
	all, err := chosen(ctx, env.Client(), nodes, asked)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(all))
	for i, node := range all {
		names[i] = node.GetName()
	}
	used := env.Usage(ctx, names)
	var out []api.Object
	for _, node := range all {
		u, ok := used[node.GetName()]
		if !ok {
			continue
		}
		out = append(out, &metricsv1beta1.NodeMetrics{
			ObjectMeta: metaOf(node), Timestamp: metav1.NewTime(u.At), Window: metav1.Duration{Duration: u.Window}, Usage: quantities(u.Usage),
		})
	}
	if asked.Name != "" && len(out) == 0 {
		return nil, apierrors.NewNotFound(metricsv1beta1.Resource("nodemetrics"), asked.Name)
	}
	return out, nil
}

// chosen reads the nodes or pods that a request is about. One that is asked for by name and isn't there is an error, as metrics-server's is.
func chosen(ctx context.Context, c api.Client, gvr gvr, asked api.Observation) ([]api.Object, error) {
	if asked.Name == "" {
		all, err := c.List(ctx, gvr, asked.Namespace, asked.Labels)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", gvr.Resource, err)
		}
		return all, nil
	}
	one, err := c.Get(ctx, gvr, asked.Namespace, asked.Name)
	if err != nil {
		return nil, err
	}
	return []api.Object{one}, nil
}
