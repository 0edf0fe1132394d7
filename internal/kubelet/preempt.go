package kubelet

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"clipper.dev/clipper/internal/kubelet/admission"
	"clipper.dev/clipper/internal/kubelet/criconfig"
	"clipper.dev/clipper/internal/kubelet/lifecycle"
	"clipper.dev/clipper/internal/kubelet/preemption"
)

// shortestKill is the least time that a pod's end is waited for.
const shortestKill = 10 * time.Second

// preempt makes room for a critical pod by ending others, and waits until these have ended.
func (k *Kubelet) preempt(ctx context.Context, pod *corev1.Pod, others []*corev1.Pod, lacking []preemption.Lack) *admission.Refusal {
	victims, err := preemption.Choose(pod, others, lacking)
	if err != nil {
		return &admission.Refusal{Reason: "UnexpectedAdmissionError", Message: fmt.Sprintf(
			"Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: %v", err)}
	}
	for _, victim := range victims {
		k.events.Event(criconfig.PodReference(victim), corev1.EventTypeWarning, preemption.Reason, preemption.Message)
		request := &killRequest{
			verdict: lifecycle.PodVerdict{Phase: corev1.PodFailed, Reason: preemption.Reason, Message: preemption.Message},
			disrupt: &corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: preemption.Disrupted},
		}
		k.evict(victim.UID, request)
		if err := k.awaitStop(ctx, victim); err != nil {
			k.logger.Warn("a pod that gives way has not ended", "pod", victim.Namespace+"/"+victim.Name, "error", err)
			continue
		}
		k.metrics.preemptions.WithLabelValues(string(lacking[0].Resource)).Inc()
	}
	return nil
}

// awaitStop waits until nothing of a pod that is being ended runs, half as long again as it has time for that.
func (k *Kubelet) awaitStop(ctx context.Context, pod *corev1.Pod) error {
	grace := lifecycle.PodGracePeriod(pod, nil, 0)
	limit := max(time.Duration(grace)*time.Second*3/2, shortestKill)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("timeout waiting to kill pod"))
	defer cancel()
	return k.pods.await(ctx, pod.UID, k.pods.isStopped)
}
