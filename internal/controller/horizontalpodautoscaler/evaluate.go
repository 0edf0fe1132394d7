package horizontalpodautoscaler

import (
	"context"
	"errors"
	"fmt"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// proposal is how many replicas one metric asks for.
type proposal struct {
	replicas int32
	metric   string // names it in messages
	status   autoscalingv2.MetricStatus
}

// refusal is why a metric proposes nothing: an error, with the reason that condition and event give and the words that they have for it.
type refusal struct {
	reason string
	cause  error
	err    error
}

// evaluate asks every metric and returns the largest proposal. Without one, or where metrics that could not be read might have kept the
// target from shrinking, it returns nil and why. An error beside a proposal tells of metrics that could not be read.
func (o *round) evaluate(ctx context.Context, scale *autoscalingv1.Scale) (*proposal, []autoscalingv2.MetricStatus, error) {
	selector, pods, err := o.selected(scale.Status.Selector)
	if err != nil {
		return nil, nil, err
	}
	specs := o.hpa.Spec.Metrics
	statuses := make([]autoscalingv2.MetricStatus, len(specs))
	var best *proposal
	var first *refusal
	refused := 0
	for i := range specs {
		began := time.Now()
		in := &reading{round: o, spec: &specs[i], scale: scale, selector: selector, pods: pods, tolerance: toleranceOf(o.hpa.Spec.Behavior)}
		p, no := in.propose(ctx)
		o.metrics.computed(&specs[i], p, o.hpa.Status.CurrentReplicas, no, time.Since(began))
		if no != nil {
			o.events.Event(o.hpa, corev1.EventTypeWarning, no.reason, no.cause.Error())
			if refused++; first == nil {
				first = no
			}
			continue
		}
		statuses[i] = p.status
		if best == nil || best.replicas == 0 || p.replicas > best.replicas {
			best = p
		}
	}
	if first != nil {
		err = fmt.Errorf("invalid metrics (%v invalid out of %v), first error is: %w", refused, len(specs), first.err)
	}
	if best == nil || first != nil && best.replicas < scale.Spec.Replicas {
		o.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, first.reason, "the HPA was unable to compute the replica count: %v", first.cause)
		return nil, statuses, err
	}
	o.condition(autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from %s", best.metric)
	return best, statuses, err
}

// selected reads the target's selector and the pods that it selects, which no other autoscaler may select too.
func (o *round) selected(text string) (labels.Selector, []*corev1.Pod, error) {
	refuse := func(reason, event, condition string) error {
		o.events.Event(o.hpa, corev1.EventTypeWarning, reason, event)
		if reason == "SelectorRequired" {
			reason = "InvalidSelector"
		}
		o.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, reason, "%s", condition)
		return errors.New(event)
	}
	if text == "" {
		return nil, nil, refuse("SelectorRequired", "selector is required", "the HPA target's scale is missing a selector")
	}
	selector, err := labels.Parse(text)
	if err != nil {
		message := fmt.Sprintf("couldn't convert selector into a corresponding internal selector object: %v", err)
		return nil, nil, refuse("InvalidSelector", message, message)
	}
	pods := o.pods.List(o.key.Namespace, selector)
	if rivals := o.selecting(o.key, selector, pods); len(rivals) > 1 {
		message := fmt.Sprintf("pods by selector %v are controlled by multiple HPAs: %v", text, rivals)
		return nil, nil, refuse("AmbiguousSelector", message, message)
	}
	return selector, pods, nil
}

// reading is the evaluation of one metric.
type reading struct {
	*round
	spec      *autoscalingv2.MetricSpec
	scale     *autoscalingv1.Scale
	selector  labels.Selector
	pods      []*corev1.Pod
	tolerance tolerance
}

func (in *reading) propose(ctx context.Context) (*proposal, *refusal) {
	var p *proposal
	var reason, what string
	var err error
	switch s := in.spec; s.Type {
	case autoscalingv2.ObjectMetricSourceType:
		reason, what = "FailedGetObjectMetric", "object metric value"
		p, err = in.object(s.Object)
	case autoscalingv2.PodsMetricSourceType:
		reason, what = "FailedGetPodsMetric", "pods metric value"
		p, err = in.ofPods(s.Pods)
	case autoscalingv2.ResourceMetricSourceType:
		reason, what = "FailedGetResourceMetric", fmt.Sprintf("%s resource metric value", s.Resource.Name)
		p, err = in.resource(ctx, s.Resource)
	case autoscalingv2.ContainerResourceMetricSourceType:
		reason, what = "FailedGetContainerResourceMetric", fmt.Sprintf("%s container metric value", s.ContainerResource.Container)
		p, err = in.container(ctx, s.ContainerResource)
	case autoscalingv2.ExternalMetricSourceType:
		reason, what = "FailedGetExternalMetric", fmt.Sprintf("%s external metric value", s.External.Metric.Name)
		p, err = in.external(s.External)
	default:
		err := specError{fmt.Errorf("unknown metric source type %q", string(s.Type))}
		return nil, &refusal{reason: "InvalidMetricSourceType", cause: err, err: err}
	}
	if err != nil {
		return nil, &refusal{reason: reason, cause: err, err: fmt.Errorf("failed to get %s: %w", what, err)}
	}
	p.status.Type = in.spec.Type
	return p, nil
}

func (in *reading) object(s *autoscalingv2.ObjectMetricSource) (*proposal, error) {
	selector, err := metav1.LabelSelectorAsSelector(s.Metric.Selector)
	if err != nil {
		return nil, err
	}
	status := &autoscalingv2.ObjectMetricStatus{DescribedObject: s.DescribedObject, Metric: s.Metric}
	p := &proposal{status: autoscalingv2.MetricStatus{Object: status}}
	perValue := s.Target.Type == autoscalingv2.ValueMetricType && s.Target.Value != nil
	perPod := s.Target.Type == autoscalingv2.AverageValueMetricType && s.Target.AverageValue != nil
	if !perValue && !perPod {
		return nil, errors.New("invalid object metric source: neither a value target nor an average value target was set")
	}
	used, err := in.sources.object(in.hpa.Namespace, &s.DescribedObject, s.Metric.Name, selector)
	if err != nil {
		err = fmt.Errorf("unable to get metric %s: %w on %s %s/%s", s.Metric.Name, err, s.DescribedObject.Kind, in.hpa.Namespace, s.DescribedObject.Name)
		if perPod {
			err = fmt.Errorf("failed to get %s object metric: %w", s.Metric.Name, err)
		}
		return nil, err
	}
	if perValue {
		p.metric = fmt.Sprintf("%s metric %s", s.DescribedObject.Kind, s.Metric.Name)
		p.replicas, err = in.byRatio(used, s.Target.Value)
		status.Current.Value = resource.NewMilliQuantity(used, resource.DecimalSI)
		return p, err
	}
	p.metric = fmt.Sprintf("external metric %s(%+v)", s.Metric.Name, s.Metric.Selector) // upstream's words
	p.replicas, used = perPodReplicas(in.scale.Status.Replicas, used, s.Target.AverageValue.MilliValue(), in.tolerance)
	status.Current.AverageValue = resource.NewMilliQuantity(used, resource.DecimalSI)
	return p, nil
}

// byRatio is for a metric of the whole: replicas in the ratio of what it is to what it shall be.
func (in *reading) byRatio(used int64, target *resource.Quantity) (int32, error) {
	return ratioReplicas(in.scale.Spec.Replicas, float64(used)/float64(target.MilliValue()), in.tolerance, in.pods)
}

func (in *reading) ofPods(s *autoscalingv2.PodsMetricSource) (*proposal, error) {
	selector, err := metav1.LabelSelectorAsSelector(s.Metric.Selector)
	if err != nil {
		return nil, err
	}
	values, err := in.sources.pods(in.hpa.Namespace, in.selector, s.Metric.Name, selector)
	if err != nil {
		return nil, fmt.Errorf("unable to get metric %s: %w", s.Metric.Name, err)
	}
	replicas, used, err := in.calculation("").byValue(values, s.Target.AverageValue.MilliValue())
	if err != nil {
		return nil, err
	}
	return &proposal{
		replicas: replicas, metric: "pods metric " + s.Metric.Name,
		status: autoscalingv2.MetricStatus{Pods: &autoscalingv2.PodsMetricStatus{
			Metric: s.Metric, Current: autoscalingv2.MetricValueStatus{AverageValue: resource.NewMilliQuantity(used, resource.DecimalSI)},
		}},
	}, nil
}

func (in *reading) resource(ctx context.Context, s *autoscalingv2.ResourceMetricSource) (*proposal, error) {
	p, current, err := in.ofResource(ctx, s.Name, "", &s.Target)
	if err != nil {
		return nil, err
	}
	p.status = autoscalingv2.MetricStatus{Resource: &autoscalingv2.ResourceMetricStatus{Name: s.Name, Current: current}}
	return p, nil
}

func (in *reading) container(ctx context.Context, s *autoscalingv2.ContainerResourceMetricSource) (*proposal, error) {
	p, current, err := in.ofResource(ctx, s.Name, s.Container, &s.Target)
	if err != nil {
		return nil, err
	}
	p.status = autoscalingv2.MetricStatus{ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{Name: s.Name, Container: s.Container, Current: current}}
	return p, nil
}

// ofResource evaluates the use of a resource by whole pods, or by one container of each.
func (in *reading) ofResource(ctx context.Context, name corev1.ResourceName, container string, target *autoscalingv2.MetricTarget) (*proposal, autoscalingv2.MetricValueStatus, error) {
	var current autoscalingv2.MetricValueStatus
	what := "utilization"
	if target.AverageValue != nil {
		what = "usage"
	} else if target.AverageUtilization == nil {
		return nil, current, errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	fail := func(err error) (*proposal, autoscalingv2.MetricValueStatus, error) {
		return nil, current, fmt.Errorf("failed to get %s %s: %w", name, what, err)
	}
	values, err := in.sources.resource(ctx, in.hpa.Namespace, in.selector, name, container)
	if err != nil {
		return fail(fmt.Errorf("unable to get metrics for resource %s: %w", name, err))
	}
	if target.AverageValue != nil {
		replicas, used, err := in.calculation(name).byValue(values, target.AverageValue.MilliValue())
		if err != nil {
			return fail(err)
		}
		current.AverageValue = quantity(name, used)
		return &proposal{replicas: replicas, metric: fmt.Sprintf("%s resource", name)}, current, nil
	}
	replicas, percent, used, err := in.calculation(name).byUtilization(values, container, *target.AverageUtilization)
	if err != nil {
		return fail(err)
	}
	current.AverageUtilization, current.AverageValue = &percent, quantity(name, used)
	kind := "resource"
	if in.spec.Type == autoscalingv2.ContainerResourceMetricSourceType {
		kind = "container resource"
	}
	return &proposal{replicas: replicas, metric: fmt.Sprintf("%s %s utilization (percentage of request)", name, kind)}, current, nil
}

func quantity(name corev1.ResourceName, milli int64) *resource.Quantity {
	if name == corev1.ResourceMemory {
		return resource.NewMilliQuantity(milli, resource.BinarySI)
	}
	return resource.NewMilliQuantity(milli, resource.DecimalSI)
}

func (in *reading) external(s *autoscalingv2.ExternalMetricSource) (*proposal, error) {
	status := &autoscalingv2.ExternalMetricStatus{Metric: s.Metric}
	p := &proposal{metric: fmt.Sprintf("external metric %s(%+v)", s.Metric.Name, s.Metric.Selector), status: autoscalingv2.MetricStatus{External: status}}
	if s.Target.AverageValue == nil && s.Target.Value == nil {
		return nil, errors.New("invalid external metric source: neither a value target nor an average value target was set")
	}
	used, err := in.externalSum(s)
	if s.Target.AverageValue != nil {
		if err != nil {
			return nil, fmt.Errorf("failed to get %s external metric: %w", s.Metric.Name, err)
		}
		p.replicas, used = perPodReplicas(in.scale.Status.Replicas, used, s.Target.AverageValue.MilliValue(), in.tolerance)
		status.Current.AverageValue = resource.NewMilliQuantity(used, resource.DecimalSI)
		return p, nil
	}
	if err == nil {
		p.replicas, err = in.byRatio(used, s.Target.Value)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to get external metric %s: %w", s.Metric.Name, err)
	}
	status.Current.Value = resource.NewMilliQuantity(used, resource.DecimalSI)
	return p, nil
}

func (in *reading) externalSum(s *autoscalingv2.ExternalMetricSource) (int64, error) {
	selector, err := metav1.LabelSelectorAsSelector(s.Metric.Selector)
	if err != nil {
		return 0, err
	}
	values, err := in.sources.external(in.hpa.Namespace, s.Metric.Name, selector)
	if err != nil {
		return 0, fmt.Errorf("unable to get external metric %s/%s/%+v: %w", in.hpa.Namespace, s.Metric.Name, s.Metric.Selector, err)
	}
	return sum(values), nil
}

func (in *reading) calculation(name corev1.ResourceName) calculation {
	return calculation{pods: in.pods, current: in.scale.Spec.Replicas, resource: name, tolerance: in.tolerance, now: time.Now()}
}
