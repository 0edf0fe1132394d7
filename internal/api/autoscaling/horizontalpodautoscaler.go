package autoscaling

import (
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/api"
)

const defaultUtilization = 80

// HorizontalPodAutoscalers is the row of autoscaling HorizontalPodAutoscaler.
var HorizontalPodAutoscalers = api.Register(&api.Resource{
	Group:      autoscalingv2.GroupName,
	Name:       "horizontalpodautoscalers",
	Singular:   "horizontalpodautoscaler",
	Kind:       "HorizontalPodAutoscaler",
	ShortNames: []string{"hpa"},
	Categories: []string{"all"},
	Namespaced: true,
	Versions: []api.Version{
		api.Serve[autoscalingv2.HorizontalPodAutoscaler, autoscalingv2.HorizontalPodAutoscalerList]("v2"),
		asV1(),
	},
	Prefix: "horizontalpodautoscalers",

	Default: api.On(defaultAutoscaler),
	PrepareCreate: api.On(func(h *autoscalingv2.HorizontalPodAutoscaler) {
		h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
	}),
	PrepareUpdate:            api.OnUpdate(func(n, o *autoscalingv2.HorizontalPodAutoscaler) { n.Status = o.Status }),
	Validate:                 api.Check(validateNewAutoscaler),
	ValidateUpdate:           api.CheckUpdate(validateAutoscalerUpdate),
	AllowUnconditionalUpdate: true,

	Columns: []metav1.TableColumnDefinition{
		api.NameColumn,
		api.Column("Reference", "string", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["scaleTargetRef"]),
		api.Column("Targets", "string", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["metrics"]),
		api.Column("MinPods", "string", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["minReplicas"]),
		api.Column("MaxPods", "string", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["maxReplicas"]),
		api.Column("Replicas", "string", autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()["currentReplicas"]),
		api.AgeColumn,
	},
	Cells: api.Print(func(h *autoscalingv2.HorizontalPodAutoscaler, p api.PrintOptions) []any {
		least := "<unset>"
		if h.Spec.MinReplicas != nil {
			least = fmt.Sprint(*h.Spec.MinReplicas)
		}
		target := h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name
		metrics := printMetrics(h.Spec.Metrics, h.Status.CurrentMetrics)
		return []any{h.Name, target, metrics, least, int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), api.Age(h.CreationTimestamp, p)}
	}),

	Status: &api.Status{
		PrepareUpdate:  api.OnUpdate(func(n, o *autoscalingv2.HorizontalPodAutoscaler) { n.Spec = o.Spec }),
		ValidateUpdate: api.CheckSame(validateAutoscalerStatus),
	},
})

func asV1() api.Version {
	v := api.Serve[autoscalingv1.HorizontalPodAutoscaler, autoscalingv1.HorizontalPodAutoscalerList]("v1")
	v.ToHub = func(o api.Object) (api.Object, error) { return fromV1(o.(*autoscalingv1.HorizontalPodAutoscaler)), nil }
	v.FromHub = func(o api.Object) (api.Object, error) { return toV1(o.(*autoscalingv2.HorizontalPodAutoscaler)) }
	return v
}

func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	s := &h.Spec
	if s.MinReplicas == nil {
		s.MinReplicas = ptr.To[int32](1)
	}
	if len(s.Metrics) == 0 {
		s.Metrics = []autoscalingv2.MetricSpec{utilizationOfCPU(defaultUtilization)}
	}
	if s.Behavior == nil {
		return
	}
	percent := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}
	pods := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}
	defaultRules(&s.Behavior.ScaleUp, pods, percent)
	defaultRules(&s.Behavior.ScaleDown, percent)
	if s.Behavior.ScaleUp.StabilizationWindowSeconds == nil { // of scaling down, the controller has a default
		s.Behavior.ScaleUp.StabilizationWindowSeconds = ptr.To[int32](0)
	}
}

func defaultRules(p **autoscalingv2.HPAScalingRules, policies ...autoscalingv2.HPAScalingPolicy) {
	if *p == nil {
		*p = &autoscalingv2.HPAScalingRules{}
	}
	if (*p).SelectPolicy == nil {
		(*p).SelectPolicy = ptr.To(autoscalingv2.MaxChangePolicySelect)
	}
	if (*p).Policies == nil {
		(*p).Policies = policies
	}
}

func utilizationOfCPU(percent int32) autoscalingv2.MetricSpec {
	target := autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: target}}
}

// printMetrics shows what the first metrics are and should be. What a status must be is not validated, so anything may be missing.
func printMetrics(specs []autoscalingv2.MetricSpec, statuses []autoscalingv2.MetricStatus) string {
	const most = 2
	var list []string
	for i, spec := range specs {
		if i == most {
			return fmt.Sprintf("%s + %d more...", strings.Join(list, ", "), len(specs)-most)
		}
		var status autoscalingv2.MetricStatus
		if i < len(statuses) {
			status = statuses[i]
		}
		list = append(list, printMetric(&spec, &status))
	}
	if len(list) == 0 {
		return "<none>"
	}
	return strings.Join(list, ", ")
}

func printMetric(m *autoscalingv2.MetricSpec, s *autoscalingv2.MetricStatus) string {
	var now autoscalingv2.MetricValueStatus
	switch {
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		if s.External != nil {
			now = s.External.Current
		}
		return printValue(m.External.Target, now)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		if s.Object != nil {
			now = s.Object.Current
		}
		return printValue(m.Object.Target, now)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		if s.Pods != nil {
			now = s.Pods.Current
		}
		return printAmount(now.AverageValue) + "/" + printAmount(m.Pods.Target.AverageValue)
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		if s.Resource != nil {
			now = s.Resource.Current
		}
		return printUtilization(m.Resource.Name, m.Resource.Target, now)
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		if s.ContainerResource != nil {
			now = s.ContainerResource.Current
		}
		return printUtilization(m.ContainerResource.Name, m.ContainerResource.Target, now)
	default:
		return "<unknown type>"
	}
}

func printAmount(q *resource.Quantity) string {
	if q == nil {
		return "<unknown>"
	}
	return q.String()
}

func printValue(target autoscalingv2.MetricTarget, now autoscalingv2.MetricValueStatus) string {
	if target.AverageValue != nil {
		return printAmount(now.AverageValue) + "/" + target.AverageValue.String() + " (avg)"
	}
	return printAmount(now.Value) + "/" + printAmount(target.Value)
}

func printUtilization(name corev1.ResourceName, target autoscalingv2.MetricTarget, now autoscalingv2.MetricValueStatus) string {
	if target.AverageValue != nil {
		return string(name) + ": " + printAmount(now.AverageValue) + "/" + target.AverageValue.String()
	}
	is, should := "<unknown>", "<auto>"
	if now.AverageUtilization != nil {
		is = fmt.Sprintf("%d%%", *now.AverageUtilization)
	}
	if target.AverageUtilization != nil {
		should = fmt.Sprintf("%d%%", *target.AverageUtilization)
	}
	return string(name) + ": " + is + "/" + should
}
