package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"clipper.dev/clipper/internal/client"
)

// effectTimeout bounds one decision's writes.
const effectTimeout = 30 * time.Second

// effects carries decisions out: bindings, conditions, evictions, events; many at a time, and never more than there is room for.
type effects struct {
	cfg     Config
	metrics *metrics
	queue   chan decision
	slots   chan struct{}
	failed  chan *podInfo // bindings to take back
	freed   chan struct{} // there is room again
}

func newEffects(cfg Config, m *metrics) *effects {
	return &effects{
		cfg: cfg, metrics: m,
		queue: make(chan decision, effectsInFlight),
		slots: make(chan struct{}, effectsInFlight),
		// As many as can be in flight: a worker never waits for the loop.
		failed: make(chan *podInfo, effectsInFlight),
		freed:  make(chan struct{}, 1),
	}
}

// room tells whether start would take another decision without waiting. Only the caller of start may rely on it.
func (e *effects) room() bool { return len(e.slots) < cap(e.slots) && len(e.failed) == 0 }

// start hands a decision over.
func (e *effects) start(d decision) {
	e.slots <- struct{}{}
	e.queue <- d
}

// run works until ctx ends and everything under way has returned.
func (e *effects) run(ctx context.Context) error {
	var g errgroup.Group
	for range effectsInFlight {
		g.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case d := <-e.queue:
					e.carryOut(ctx, d)
					<-e.slots
					select {
					case e.freed <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	return g.Wait()
}

func (e *effects) carryOut(ctx context.Context, d decision) {
	ctx, cancel := context.WithTimeout(ctx, effectTimeout)
	defer cancel()
	if d.node == "" {
		e.tellWhy(ctx, d)
		return
	}
	if d.volumes != nil {
		e.writeVolumes(ctx, d)
		return
	}
	if d.claims != nil && (!e.writeClaims(ctx, d) || d.claims.waits) {
		return
	}
	e.bind(ctx, d)
}

func (e *effects) bind(ctx context.Context, d decision) {
	pod := d.pod.pod
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: d.node},
	}
	watch := e.metrics.points.start()
	_, err := client.Pods.CreateSub(ctx, e.cfg.Client, pod.Namespace, pod.Name, "binding", binding)
	e.metrics.points.passed(pointBind, watch.lap(), err == nil)
	e.metrics.bound(d.pod, d.began, time.Now(), err)
	if err == nil {
		e.cfg.Events.Eventf(pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, d.node)
		return
	}
	if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
		e.cfg.Logger.Warn("binding failed", "pod", d.pod.fullName(), "node", d.node, "error", err)
		e.cfg.Events.Eventf(pod, corev1.EventTypeWarning, "FailedScheduling", "binding rejected: %v", err)
	}
	if d.claims != nil {
		e.releaseClaims(ctx, d)
	}
	e.failed <- d.pod
}

// writeVolumes asks for the volumes that a pod needs on its node. Whoever binds claims does the rest.
func (e *effects) writeVolumes(ctx context.Context, d decision) {
	for _, v := range d.volumes.volumes {
		if _, err := client.PersistentVolumes.Update(ctx, e.cfg.Client, v); err != nil {
			e.volumesFailed(ctx, d, fmt.Errorf("bind volume %s: %w", v.Name, err))
			return
		}
	}
	for _, c := range d.volumes.claims {
		if _, err := client.PersistentVolumeClaims.Update(ctx, e.cfg.Client, c); err != nil {
			e.volumesFailed(ctx, d, fmt.Errorf("select a node for claim %s: %w", c.Name, err))
			return
		}
	}
}

func (e *effects) volumesFailed(ctx context.Context, d decision, err error) {
	if ctx.Err() == nil && !apierrors.IsConflict(err) {
		e.cfg.Logger.Warn("preparing a pod's volumes failed", "pod", d.pod.fullName(), "node", d.node, "error", err)
	}
	e.failed <- d.pod
}

// tellWhy writes to a pod why it has no node, and evicts the victims that make room for it.
func (e *effects) tellWhy(ctx context.Context, d decision) {
	pod := d.pod.pod
	e.cfg.Events.Event(pod, corev1.EventTypeWarning, "FailedScheduling", d.message)
	e.freeClaims(ctx, d)
	status := map[string]any{}
	condition := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: d.message,
		ObservedGeneration: pod.Generation, LastTransitionTime: metav1.Now(),
	}
	if !saysAlready(pod, condition) {
		status["conditions"] = []corev1.PodCondition{condition}
	}
	switch {
	case d.nominate != "" && d.nominate != pod.Status.NominatedNodeName:
		status["nominatedNodeName"] = d.nominate
	case d.nominate == "" && pod.Status.NominatedNodeName != "" && !d.keepNomination:
		status["nominatedNodeName"] = nil
	}
	if len(status) > 0 {
		if err := e.patchStatus(ctx, pod, status); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			e.cfg.Logger.Warn("writing why a pod has no node failed", "pod", d.pod.fullName(), "error", err)
		}
	}
	for _, p := range d.outbid {
		if p.pod.Status.NominatedNodeName == "" {
			continue // It waited for volumes.
		}
		if err := e.patchStatus(ctx, p.pod, map[string]any{"nominatedNodeName": nil}); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			e.cfg.Logger.Warn("taking back a nomination failed", "pod", p.fullName(), "error", err)
		}
	}
	for _, v := range d.victims {
		if err := e.evict(ctx, v.pod, pod, d.nominate); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			e.cfg.Logger.Warn("preemption failed", "pod", d.pod.fullName(), "victim", v.fullName(), "error", err)
		}
	}
}

func (e *effects) evict(ctx context.Context, victim, preemptor *corev1.Pod, node string) error {
	condition := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
		Message: fmt.Sprintf("%s: preempting to accommodate a higher priority pod", preemptor.Spec.SchedulerName), LastTransitionTime: metav1.Now(),
		ObservedGeneration: victim.Generation,
	}
	if err := e.patchStatus(ctx, victim, map[string]any{"conditions": []corev1.PodCondition{condition}}); err != nil {
		return err
	}
	if err := client.Pods.Delete(ctx, e.cfg.Client, victim.Namespace, victim.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &victim.UID}}); err != nil {
		return err
	}
	e.cfg.Events.Eventf(victim, corev1.EventTypeNormal, "Preempted", "Preempted by pod %s on node %s", preemptor.UID, node)
	return nil
}

func (e *effects) patchStatus(ctx context.Context, pod *corev1.Pod, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = client.Pods.Patch(ctx, e.cfg.Client, pod.Namespace, pod.Name, "status", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

func saysAlready(pod *corev1.Pod, want corev1.PodCondition) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == want.Type {
			return c.Status == want.Status && c.Reason == want.Reason && c.Message == want.Message && c.ObservedGeneration == want.ObservedGeneration
		}
	}
	return false
}
