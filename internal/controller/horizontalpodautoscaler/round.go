package horizontalpodautoscaler

import (
	"context"
	"errors"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/controller"
)

// round is one look at one autoscaler.
type round struct {
	*reconciler
	key     controller.Key
	hpa     *autoscalingv2.HorizontalPodAutoscaler // a copy, whose status is made
	before  *autoscalingv2.HorizontalPodAutoscalerStatus
	history *history

	action string // what was done, for the metrics
}

// errSpec marks errors that the autoscaler's author has made.
var errSpec = errors.New("invalid spec")

// specError is such an error, in its own words alone.
type specError struct{ error }

func (specError) Is(target error) bool { return target == errSpec }

// decision is how many replicas there shall be, and why.
type decision struct {
	replicas int32
	reason   string
	rescale  bool
	statuses []autoscalingv2.MetricStatus
	partial  error // of metrics that could not be read beside others that could
}

// run does the round.
func (o *round) run(ctx context.Context) error {
	o.action = actionNone
	target, err := o.target(ctx)
	if err != nil {
		return err
	}
	o.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	o.history.begin(target.scale.Spec.Replicas)
	d, err := o.decide(ctx, target.scale)
	if err != nil {
		return err
	}
	current := target.scale.Spec.Replicas
	if !d.rescale {
		d.replicas = current
	} else if err := o.rescale(ctx, target, &d); err != nil {
		return err
	}
	o.status(current, d.replicas, d.statuses, d.rescale)
	o.metrics.desired.WithLabelValues(o.key.Namespace, o.key.Name).Set(float64(d.replicas))
	if err := o.writeStatus(ctx); err != nil {
		return err
	}
	return d.partial
}

// reference names the target in messages.
func (o *round) reference() string {
	return fmt.Sprintf("%s/%s/%s", o.hpa.Spec.ScaleTargetRef.Kind, o.hpa.Namespace, o.hpa.Spec.ScaleTargetRef.Name)
}

// target reads the scale of what is to be scaled.
func (o *round) target(ctx context.Context) (*target, error) {
	ref := &o.hpa.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, o.noScale(ctx, err, specError{fmt.Errorf("invalid API version in scale target reference: %w", err)})
	}
	places, err := o.scales.places(schema.GroupKind{Group: gv.Group, Kind: ref.Kind})
	if err != nil {
		return nil, o.noScale(ctx, err, fmt.Errorf("unable to determine resource for scale target reference: %w", err))
	}
	t, err := o.scales.find(ctx, places, o.hpa.Namespace, ref.Name)
	if err != nil {
		return nil, o.noScale(ctx, err, fmt.Errorf("failed to query scale subresource for %s: %w", o.reference(), err))
	}
	return t, nil
}

// noScale tells that the target's scale could not be read.
func (o *round) noScale(ctx context.Context, cause, result error) error {
	o.events.Event(o.hpa, corev1.EventTypeWarning, "FailedGetScale", cause.Error())
	o.condition(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedGetScale", "the HPA controller was unable to get the target's current scale: %v", cause)
	return errors.Join(result, o.writeStatus(ctx))
}

// decide finds out how many replicas there shall be.
func (o *round) decide(ctx context.Context, scale *autoscalingv1.Scale) (decision, error) {
	spec, current := &o.hpa.Spec, scale.Spec.Replicas
	least := int32(1)
	if spec.MinReplicas != nil {
		least = *spec.MinReplicas
	}
	switch {
	case current == 0:
		o.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		o.dropCondition(autoscalingv2.ScaledToZero)
		return decision{}, nil
	case current > spec.MaxReplicas:
		return decision{replicas: spec.MaxReplicas, reason: "Current number of replicas above Spec.MaxReplicas", rescale: true}, nil
	case current < least:
		return decision{replicas: least, reason: "Current number of replicas below Spec.MinReplicas", rescale: true}, nil
	}
	best, statuses, err := o.evaluate(ctx, scale)
	if best == nil {
		o.status(current, o.hpa.Status.DesiredReplicas, statuses, false)
		failed := fmt.Errorf("failed to compute desired number of replicas based on listed metrics for %s: %w", o.reference(), err)
		failed = errors.Join(failed, o.writeStatus(ctx))
		o.events.Event(o.hpa, corev1.EventTypeWarning, "FailedComputeMetricsReplicas", err.Error())
		return decision{}, failed
	}
	d := decision{replicas: max(best.replicas, 0), statuses: statuses, partial: err}
	if d.replicas > current {
		d.reason = best.metric + " above target"
	}
	if d.replicas < current {
		d.reason = "All metrics below target"
	}
	var limit outcome
	d.replicas, limit = o.history.limit(limits{behavior: spec.Behavior, least: least, most: spec.MaxReplicas, current: current}, d.replicas)
	o.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, limit.able.reason, "%s", limit.able.message)
	o.condition(autoscalingv2.ScalingLimited, limit.limited.status, limit.limited.reason, "%s", limit.limited.message)
	d.rescale = d.replicas != current
	return d, nil
}

// rescale writes the number of replicas.
func (o *round) rescale(ctx context.Context, t *target, d *decision) error {
	current := t.scale.Spec.Replicas
	if err := o.scales.set(ctx, t, d.replicas); err != nil {
		o.events.Eventf(o.hpa, corev1.EventTypeWarning, "FailedRescale", "New size: %d; reason: %s; error: %v", d.replicas, d.reason, err)
		o.condition(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedUpdateScale", "the HPA controller was unable to update the target scale: %v", err)
		o.status(current, o.hpa.Status.DesiredReplicas, d.statuses, false)
		return errors.Join(fmt.Errorf("failed to rescale %s: %w", o.reference(), err), o.writeStatus(ctx))
	}
	o.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededRescale", "the HPA controller was able to update the target scale to %d", d.replicas)
	o.events.Eventf(o.hpa, corev1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", d.replicas, d.reason)
	o.history.scaled(o.hpa.Spec.Behavior, current, d.replicas)
	o.dropCondition(autoscalingv2.ScaledToZero)
	o.logger.Info("workload scaled", "autoscaler", o.key, "from", current, "to", d.replicas, "reason", d.reason)
	o.action = actionDown
	if d.replicas > current {
		o.action = actionUp
	}
	return nil
}

// status makes the status anew, but for its conditions. Upstream's leaves out the observed generation too.
func (o *round) status(current, desired int32, statuses []autoscalingv2.MetricStatus, rescaled bool) {
	was := o.hpa.Status
	o.hpa.Status = autoscalingv2.HorizontalPodAutoscalerStatus{
		CurrentReplicas: current, DesiredReplicas: desired, LastScaleTime: was.LastScaleTime, CurrentMetrics: statuses, Conditions: was.Conditions,
	}
	if rescaled {
		now := metav1.Now()
		o.hpa.Status.LastScaleTime = &now
	}
}

// writeStatus writes the status if it is another one.
func (o *round) writeStatus(ctx context.Context) error {
	if apiequality.Semantic.DeepEqual(o.before, &o.hpa.Status) {
		return nil
	}
	_, err := client.HorizontalPodAutoscalers.UpdateStatus(ctx, o.client, o.hpa)
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	o.events.Event(o.hpa, corev1.EventTypeWarning, "FailedUpdateStatus", err.Error())
	return fmt.Errorf("failed to update status for %s: %w", o.hpa.Name, err)
}

// condition sets a condition of the autoscaler.
func (o *round) condition(kind autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, format string, args ...any) {
	list := o.hpa.Status.Conditions
	i := 0
	for i < len(list) && list[i].Type != kind {
		i++
	}
	if i == len(list) {
		list = append(list, autoscalingv2.HorizontalPodAutoscalerCondition{Type: kind})
	}
	if list[i].Status != status {
		list[i].LastTransitionTime = metav1.Now()
	}
	list[i].Status, list[i].Reason, list[i].Message = status, reason, fmt.Sprintf(format, args...)
	o.hpa.Status.Conditions = list
}

func (o *round) dropCondition(kind autoscalingv2.HorizontalPodAutoscalerConditionType) {
	kept := o.hpa.Status.Conditions[:0]
	for _, c := range o.hpa.Status.Conditions {
		if c.Type != kind {
			kept = append(kept, c)
		}
	}
	o.hpa.Status.Conditions = kept
}
