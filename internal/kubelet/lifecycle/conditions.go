package lifecycle

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// OwnedCondition tells whether the kubelet alone writes a condition of this type.
func OwnedCondition(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReadyToStartContainers,
		corev1.PodResizePending, corev1.PodResizeInProgress, corev1.AllContainersRestarting:
		return true
	}
	return false
}

// conditions makes the kubelet's conditions in upstream's order. others are those that somebody else owns.
func conditions(in *StatusInput, s *corev1.PodStatus, statuses map[string]*corev1.ContainerStatus, others []corev1.PodCondition) []corev1.PodCondition {
	pod := in.Pod
	out := append([]corev1.PodCondition{}, others...)
	if !in.Ended {
		out = append(out, in.Resize...)
	}
	if d := findCondition(in.Previous.Conditions, corev1.DisruptionTarget); d != nil && findCondition(out, corev1.DisruptionTarget) == nil {
		out = append(out, *d)
	}
	if in.Disruption != nil && in.Stopped {
		out = replaceCondition(out, *in.Disruption)
	}
	needed, _, _ := sandboxNeeded(pod, in.Observed)
	containersReady := containersReadyCondition(pod, statuses, s.Phase)
	out = append(out,
		boolCondition(corev1.PodReadyToStartContainers, !needed),
		initializedCondition(in, statuses, s.Phase),
		readyCondition(pod, containersReady, others),
		containersReady,
		boolCondition(corev1.PodScheduled, true),
	)
	if couldRestartAll(pod) {
		out = append(out, restartingAllCondition(in, s.Phase))
	}
	for i := range out {
		if OwnedCondition(out[i].Type) || out[i].Type == corev1.DisruptionTarget && in.Disruption != nil {
			out[i].ObservedGeneration = pod.Generation
			out[i].LastTransitionTime = transitionTime(in, &out[i])
		}
	}
	return out
}

func transitionTime(in *StatusInput, c *corev1.PodCondition) metav1.Time {
	if prev := findCondition(in.Previous.Conditions, c.Type); prev != nil && prev.Status == c.Status {
		return prev.LastTransitionTime
	}
	return stamp(in.Now)
}

func boolCondition(t corev1.PodConditionType, ok bool) corev1.PodCondition {
	c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse}
	if ok {
		c.Status = corev1.ConditionTrue
	}
	return c
}

func falseCondition(t corev1.PodConditionType, reason, message string) corev1.PodCondition {
	return corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
}

func findCondition(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

func replaceCondition(list []corev1.PodCondition, c corev1.PodCondition) []corev1.PodCondition {
	if old := findCondition(list, c.Type); old != nil {
		*old = c
		return list
	}
	return append(list, c)
}

// listProblems says which containers are unknown and which are not as they should be, in upstream's words.
func listProblems(unknown, bad []string, what string) string {
	var parts []string
	if len(unknown) > 0 {
		parts = append(parts, fmt.Sprintf("containers with unknown status: %s", unknown))
	}
	if len(bad) > 0 {
		parts = append(parts, fmt.Sprintf("containers with %s status: %s", what, bad))
	}
	return strings.Join(parts, ", ")
}

func containersReadyCondition(pod *corev1.Pod, statuses map[string]*corev1.ContainerStatus, p corev1.PodPhase) corev1.PodCondition {
	if len(statuses) == 0 {
		return falseCondition(corev1.ContainersReady, "UnknownContainerStatuses", "")
	}
	var unknown, unready []string
	check := func(name string) {
		switch s := statuses[name]; {
		case s == nil:
			unknown = append(unknown, name)
		case !s.Ready:
			unready = append(unready, name)
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; IsSidecar(c) {
			check(c.Name)
		}
	}
	for i := range pod.Spec.Containers {
		check(pod.Spec.Containers[i].Name)
	}
	switch {
	case p == corev1.PodSucceeded && len(unknown) == 0:
		return falseCondition(corev1.ContainersReady, "PodCompleted", "")
	case p == corev1.PodFailed:
		return falseCondition(corev1.ContainersReady, "PodFailed", "")
	}
	if problems := listProblems(unknown, unready, "unready"); problems != "" {
		return falseCondition(corev1.ContainersReady, "ContainersNotReady", problems)
	}
	return boolCondition(corev1.ContainersReady, true)
}

func readyCondition(pod *corev1.Pod, containersReady corev1.PodCondition, others []corev1.PodCondition) corev1.PodCondition {
	if containersReady.Status != corev1.ConditionTrue {
		return falseCondition(corev1.PodReady, containersReady.Reason, containersReady.Message)
	}
	var problems []string
	for _, gate := range pod.Spec.ReadinessGates {
		switch c := findCondition(others, gate.ConditionType); {
		case c == nil:
			problems = append(problems, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", string(gate.ConditionType)))
		case c.Status != corev1.ConditionTrue:
			problems = append(problems, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", string(gate.ConditionType), c.Status))
		}
	}
	if len(problems) > 0 {
		return falseCondition(corev1.PodReady, "ReadinessGatesNotReady", strings.Join(problems, ", "))
	}
	return boolCondition(corev1.PodReady, true)
}

func initializedCondition(in *StatusInput, statuses map[string]*corev1.ContainerStatus, p corev1.PodPhase) corev1.PodCondition {
	pod := in.Pod
	if len(statuses) == 0 && len(pod.Spec.InitContainers) > 0 {
		return falseCondition(corev1.PodInitialized, "UnknownContainerStatuses", "")
	}
	var unknown, incomplete []string
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		s := statuses[c.Name]
		switch {
		case s == nil:
			unknown = append(unknown, c.Name)
		case IsSidecar(c) && (s.Started == nil || !*s.Started), !IsSidecar(c) && !s.Ready:
			incomplete = append(incomplete, c.Name)
		}
	}
	if p == corev1.PodSucceeded && len(unknown) == 0 {
		c := boolCondition(corev1.PodInitialized, true)
		c.Reason = "PodCompleted"
		return c
	}
	if anyRegularStarted(pod, statuses) {
		return boolCondition(corev1.PodInitialized, true)
	}
	problems := listProblems(unknown, incomplete, "incomplete")
	if problems == "" {
		return boolCondition(corev1.PodInitialized, true)
	}
	if prev := findCondition(in.Previous.Conditions, corev1.PodInitialized); prev != nil && prev.Status == corev1.ConditionTrue {
		return boolCondition(corev1.PodInitialized, true)
	}
	return falseCondition(corev1.PodInitialized, "ContainersNotInitialized", problems)
}

func anyRegularStarted(pod *corev1.Pod, statuses map[string]*corev1.ContainerStatus) bool {
	for i := range pod.Spec.Containers {
		s := statuses[pod.Spec.Containers[i].Name]
		if s != nil && (s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil) {
			return true
		}
	}
	return false
}

func restartingAllCondition(in *StatusInput, p corev1.PodPhase) corev1.PodCondition {
	switch {
	case p == corev1.PodSucceeded:
		return falseCondition(corev1.AllContainersRestarting, "PodCompleted", "")
	case p == corev1.PodFailed:
		return falseCondition(corev1.AllContainersRestarting, "PodFailed", "")
	case !RestartsAll(in.Pod, in.Observed):
		return boolCondition(corev1.AllContainersRestarting, false)
	}
	c := boolCondition(corev1.AllContainersRestarting, true)
	c.Reason, c.Message = "RestartAllContainersStarted", "container exited with restart policy rule"
	return c
}
