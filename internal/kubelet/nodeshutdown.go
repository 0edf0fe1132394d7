package kubelet

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/node"
	"clipper.dev/clipper/internal/kubelet/shutdown"
)

// newShutdown makes what waits for the machine's shutdown; nil if pods get no time then.
func (k *Kubelet) newShutdown() *shutdown.Manager {
	if len(k.cfg.parsed.shutdownPeriods) == 0 {
		return nil
	}
	return shutdown.New(shutdown.Config{
		Periods: k.cfg.parsed.shutdownPeriods, Pods: k.podsThatRun, End: k.endForShutdown, Changed: func() { k.node.Check() }, Metrics: k.metrics.shutdown, Logger: k.logger,
		Event: func(message string) {
			k.events.Event(node.Reference(k.cfg.NodeName), corev1.EventTypeNormal, shutdown.EventReason, message)
		},
	})
}

// podsThatRun lists the pods that have not ended.
func (k *Kubelet) podsThatRun() []*corev1.Pod {
	var out []*corev1.Pod
	for _, s := range k.pods.list() {
		if !s.Stopped && !lifecycle.Terminal(s.Pod.Status.Phase) {
			out = append(out, s.Pod)
		}
	}
	return out
}

// endForShutdown ends a pod and waits until its containers and volumes are gone.
func (k *Kubelet) endForShutdown(ctx context.Context, pod *corev1.Pod, seconds int64) {
	k.evict(pod.UID, &killRequest{
		verdict: lifecycle.PodVerdict{Phase: corev1.PodFailed, Reason: shutdown.Reason, Message: shutdown.Message}, grace: &seconds,
		disrupt: &corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: shutdown.Message},
	})
	_ = k.pods.await(ctx, pod.UID, k.pods.isCleaned) // the machine goes down in any case
}
