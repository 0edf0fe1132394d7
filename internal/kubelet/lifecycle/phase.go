package lifecycle

import (
	corev1 "k8s.io/api/core/v1"
)

// tally counts containers by what they do, the way that a pod's phase asks.
type tally struct {
	initPending, initFailed int // init containers that are to come or run; that failed for good
	sidecarsPending         int
	unknown, waiting        int
	running                 int
	stopped, final, success int // regular ones that are not running; of them, those that won't come back; those that exited with 0
}

// phase derives the pod's phase from its container statuses. ended says that containers won't be restarted whatever the policy;
// initialized that regular containers have run, so that a restarting sidecar doesn't make the pod pending again.
func phase(pod *corev1.Pod, statuses map[string]*corev1.ContainerStatus, ended, initialized bool) corev1.PodPhase {
	t := count(pod, statuses)
	switch {
	case t.initFailed > 0:
		return corev1.PodFailed
	case t.initPending > 0, t.sidecarsPending > 0 && !initialized, t.waiting > 0:
		return corev1.PodPending
	case t.unknown > 0:
		return corev1.PodPending
	case t.running > 0:
		return corev1.PodRunning
	case t.stopped == 0:
		return corev1.PodPending
	case !(ended && !IsStatic(pod)) && t.stopped != t.final:
		return corev1.PodRunning
	case t.stopped == t.success:
		return corev1.PodSucceeded
	}
	return corev1.PodFailed
}

func count(pod *corev1.Pod, statuses map[string]*corev1.ContainerStatus) tally {
	var t tally
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if IsSidecar(c) {
			t.addSidecar(statuses[c.Name])
			continue
		}
		t.addInit(pod, c, statuses[c.Name])
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		t.addRegular(pod, c, statuses[c.Name])
	}
	return t
}

// lastExit returns how the container ended, if it doesn't run now.
func lastExit(s *corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	switch {
	case s.State.Terminated != nil:
		return s.State.Terminated
	case s.State.Waiting != nil:
		return s.LastTerminationState.Terminated
	}
	return nil
}

// addInit counts an init container that runs to completion. One that failed and will be tried again doesn't count: the regular
// containers behind it still wait, so the pod is pending anyway.
func (t *tally) addInit(pod *corev1.Pod, c *corev1.Container, s *corev1.ContainerStatus) {
	if s == nil || s.State.Running != nil {
		t.initPending++
		return
	}
	switch exit := lastExit(s); {
	case exit == nil:
		t.initPending++
	case exit.ExitCode != 0 && !restartsAfter(pod, c, exit.ExitCode) && !isRestartingAll(exit):
		t.initFailed++
	}
}

func (t *tally) addSidecar(s *corev1.ContainerStatus) {
	switch {
	case s == nil:
		t.unknown++
	case s.State.Running != nil:
		t.running++
		if s.Started == nil || !*s.Started {
			t.sidecarsPending++
		}
	case s.State.Terminated != nil, s.State.Waiting != nil && s.LastTerminationState.Terminated != nil:
		// A stopped sidecar doesn't count for the phase.
	case s.State.Waiting != nil:
		t.sidecarsPending++
		t.waiting++
	default:
		t.sidecarsPending++
		t.unknown++
	}
}

func (t *tally) addRegular(pod *corev1.Pod, c *corev1.Container, s *corev1.ContainerStatus) {
	if s == nil {
		t.unknown++
		return
	}
	if s.State.Running != nil {
		t.running++
		return
	}
	exit := lastExit(s)
	switch {
	case exit != nil:
		t.stopped++
		if !restartsAfter(pod, c, exit.ExitCode) && !isRestartingAll(exit) {
			t.final++
		}
		if s.State.Terminated != nil && exit.ExitCode == 0 {
			t.success++
		}
	case s.State.Waiting != nil:
		t.waiting++
	default:
		t.unknown++
	}
}

func isRestartingAll(exit *corev1.ContainerStateTerminated) bool {
	return exit.Reason == reasonRestartingAll
}

// IsStatic tells whether the pod comes from a folder of this node and not from the API.
func IsStatic(pod *corev1.Pod) bool {
	source := pod.Annotations[SourceAnnotation]
	return source != "" && source != SourceAPI
}

// What a pod's annotations say of where it comes from, as upstream writes them.
const (
	SourceAnnotation = "kubernetes.io/config.source"
	HashAnnotation   = "kubernetes.io/config.hash"
	MirrorAnnotation = "kubernetes.io/config.mirror"
	SeenAnnotation   = "kubernetes.io/config.seen"

	SourceAPI  = "api"
	SourceFile = "file"
)
