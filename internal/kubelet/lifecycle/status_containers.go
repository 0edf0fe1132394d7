package lifecycle

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Why a container that is still to be started waits.
const (
	ReasonCreating     = "ContainerCreating"
	ReasonInitializing = "PodInitializing"
)

const (
	reasonStatusUnknown = "ContainerStatusUnknown"
	reasonRestartingAll = "RestartingAllContainers"
	lostExitCode        = 137
)

// containerStatuses fills in the three lists and returns init and regular ones by name.
func containerStatuses(in *StatusInput, s *corev1.PodStatus) map[string]*corev1.ContainerStatus {
	pod := in.Pod
	all := map[string]*corev1.ContainerStatus{}
	list := func(class Class, n int, previous []corev1.ContainerStatus) []corev1.ContainerStatus {
		out := make([]corev1.ContainerStatus, 0, n)
		for i := range n {
			ref := Ref{class, i}
			out = append(out, containerStatus(in, ref, findStatus(previous, ref.Spec(pod).Name)))
		}
		if class != Init {
			slices.SortFunc(out, func(a, b corev1.ContainerStatus) int { return cmp.Compare(a.Name, b.Name) })
		}
		if len(out) == 0 {
			return nil
		}
		return out
	}
	s.InitContainerStatuses = list(Init, len(pod.Spec.InitContainers), in.Previous.InitContainerStatuses)
	s.ContainerStatuses = list(Regular, len(pod.Spec.Containers), in.Previous.ContainerStatuses)
	s.EphemeralContainerStatuses = list(Ephemeral, len(pod.Spec.EphemeralContainers), in.Previous.EphemeralContainerStatuses)
	for _, l := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range l {
			all[l[i].Name] = &l[i]
		}
	}
	return all
}

func findStatus(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// containerStatus makes the status of one container from what the runtime shows, else from what was known before.
func containerStatus(in *StatusInput, ref Ref, previous *corev1.ContainerStatus) corev1.ContainerStatus {
	c := ref.Spec(in.Pod)
	latest, before := latestTwo(in.Observed, c.Name)
	var s corev1.ContainerStatus
	if latest == nil {
		s = missingStatus(in, ref, c, previous)
	} else {
		s = seenStatus(in, c, latest, previous)
		if before != nil {
			s.LastTerminationState = corev1.ContainerState{}
			if before.State == Exited {
				s.LastTerminationState.Terminated = terminated(in.Observed, before)
			}
		}
	}
	applyWaiting(in, ref, c, latest, &s)
	applyHealth(in, ref, &s, previous)
	s.VolumeMounts = mountStatuses(c, latest)
	return s
}

func latestTwo(o *Observed, name string) (latest, before *Container) {
	for i := range o.Containers {
		if o.Containers[i].Name != name {
			continue
		}
		if latest != nil {
			return latest, &o.Containers[i]
		}
		latest = &o.Containers[i]
	}
	return latest, nil
}

// ContainerID returns a container's ID as statuses show it.
func (o *Observed) ContainerID(id string) string { return o.RuntimeName + "://" + id }

func terminated(o *Observed, c *Container) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{
		ExitCode:    c.ExitCode,
		Reason:      c.Reason,
		Message:     c.Message,
		StartedAt:   stamp(c.StartedAt),
		FinishedAt:  stamp(c.FinishedAt),
		ContainerID: o.ContainerID(c.ID),
	}
}

func seenStatus(in *StatusInput, c *corev1.Container, seen *Container, previous *corev1.ContainerStatus) corev1.ContainerStatus {
	s := corev1.ContainerStatus{
		Name:         c.Name,
		RestartCount: seen.RestartCount,
		Image:        seen.Image,
		ImageID:      seen.ImageRef,
		ContainerID:  in.Observed.ContainerID(seen.ID),
		User:         seen.User,
		StopSignal:   seen.StopSignal,
	}
	if previous != nil {
		s.RestartCount = max(s.RestartCount, previous.RestartCount)
		switch {
		case previous.ContainerID != s.ContainerID && previous.State.Terminated != nil:
			s.LastTerminationState.Terminated = previous.State.Terminated
		case previous.LastTerminationState.Terminated != nil:
			s.LastTerminationState.Terminated = previous.LastTerminationState.Terminated
		}
	}
	switch seen.State {
	case Running:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: stamp(seen.StartedAt)}
	case Exited:
		s.State.Terminated = terminated(in.Observed, seen)
	case Unknown:
		if previous == nil || previous.State.Running == nil {
			s.State.Waiting = &corev1.ContainerStateWaiting{}
			break
		}
		s.State.Terminated = lostState("The container could not be located when the pod was terminated")
		s.RestartCount = previous.RestartCount + 1
	default:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: waitingReason(in.Pod)}
	}
	containerResources(in, c, seen, &s)
	return s
}

func lostState(message string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{Reason: reasonStatusUnknown, Message: message, ExitCode: lostExitCode}
}

// containerResources reports what was granted, and what is in force where the runtime tells.
func containerResources(in *StatusInput, c *corev1.Container, seen *Container, s *corev1.ContainerStatus) {
	s.AllocatedResources = c.Resources.Requests
	s.Resources = c.Resources.DeepCopy()
	if seen.State != Running || seen.Resources == nil {
		return
	}
	overlay := func(to, from corev1.ResourceList) {
		for name, q := range from {
			if _, ok := to[name]; ok {
				to[name] = q
			}
		}
	}
	overlay(s.Resources.Limits, seen.Resources.Limits)
	overlay(s.Resources.Requests, seen.Resources.Requests)
}

// waitingReason says why a container that has no problem doesn't run yet.
func waitingReason(pod *corev1.Pod) string {
	if len(pod.Spec.InitContainers) > 0 {
		return ReasonInitializing
	}
	return ReasonCreating
}

// stamp is a time as the API stores it.
func stamp(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.Truncate(time.Second))
}

// missingStatus is for a container that the runtime doesn't know: not made yet, or collected.
func missingStatus(in *StatusInput, ref Ref, c *corev1.Container, previous *corev1.ContainerStatus) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: waitingReason(in.Pod)}}}
	if previous == nil {
		inferInit(in, ref, c, &s)
		return s
	}
	restarting := RestartsAll(in.Pod, in.Observed)
	switch {
	case restarting && previous.State.Waiting == nil:
		const message = "The container is removed because RestartAllContainers in place"
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: reasonRestartingAll, Message: message}
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: reasonRestartingAll, Message: message, ExitCode: lostExitCode}
		s.RestartCount = previous.RestartCount + 1
		return s
	case previous.State.Terminated != nil:
		s = *previous.DeepCopy()
	default:
		s.RestartCount = previous.RestartCount
		s.LastTerminationState = previous.LastTerminationState
		if previous.State.Running != nil && s.LastTerminationState.Terminated == nil {
			s.LastTerminationState.Terminated = lostState("The container could not be located when the pod was deleted.  The container used to be Running")
			if in.Pod.DeletionTimestamp == nil {
				s.RestartCount++
			}
		}
	}
	inferInit(in, ref, c, &s)
	return s
}

// inferInit takes an init container that nobody remembers as completed once regular containers exist.
func inferInit(in *StatusInput, ref Ref, c *corev1.Container, s *corev1.ContainerStatus) {
	if ref.Class != Init || IsSidecar(c) || s.State.Waiting == nil || !anyRegularCreated(in.Pod, in.Observed) {
		return
	}
	s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason:  "Completed",
		Message: "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally",
	}}
}

// applyWaiting shows why a container that should run does not.
func applyWaiting(in *StatusInput, ref Ref, c *corev1.Container, seen *Container, s *corev1.ContainerStatus) {
	why, ok := in.Waiting[c.Name]
	switch {
	case !ok, in.Ended:
		return
	case ref.Class == Init && seen != nil && seen.State == Exited && seen.ExitCode == 0 && !IsSidecar(c):
		return
	case ref.Class == Ephemeral && seen != nil, !shouldStart(in.Pod, c, seen):
		return
	}
	if s.State.Terminated != nil {
		s.LastTerminationState = corev1.ContainerState{Terminated: s.State.Terminated}
	}
	s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: why.Reason, Message: why.Message}}
}

// applyHealth sets started and ready from the probes. A verdict that is still pending after a restart of the kubelet
// leaves both as the API has them.
func applyHealth(in *StatusInput, ref Ref, s *corev1.ContainerStatus, previous *corev1.ContainerStatus) {
	started := s.State.Running != nil
	s.Started = &started
	if ref.Class == Ephemeral {
		return
	}
	c := ref.Spec(in.Pod)
	if ref.Class == Init && !IsSidecar(c) {
		s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
		return
	}
	s.Ready = false
	if !started {
		return
	}
	known := previous != nil && previous.ContainerID == s.ContainerID
	health := in.Health(c.Name, bareID(s.ContainerID))
	switch health.Startup {
	case Failure:
		started = false
	case Pending:
		started = known && previous.Started != nil && *previous.Started
	}
	if !started {
		return
	}
	switch health.Readiness {
	case NoProbe, Success:
		s.Ready = true
	case Pending:
		s.Ready = known && previous.Ready
	}
}

func bareID(id string) string {
	for i := 0; i+2 < len(id); i++ {
		if id[i:i+3] == "://" {
			return id[i+3:]
		}
	}
	return id
}

func mountStatuses(c *corev1.Container, seen *Container) []corev1.VolumeMountStatus {
	var out []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		if seen != nil && seen.ImageVolumes[m.MountPath] != "" {
			s.VolumeStatus = &corev1.VolumeStatus{Image: &corev1.ImageVolumeStatus{ImageRef: seen.ImageVolumes[m.MountPath]}}
		}
		out = append(out, s)
	}
	return out
}

// Finish makes the status of a pod whose containers are all gone: what ran and isn't known to have ended is reported as lost.
func Finish(pod *corev1.Pod, s corev1.PodStatus) corev1.PodStatus {
	s = *s.DeepCopy()
	if hasInitialized(pod, &s) {
		lose(s.ContainerStatuses)
	}
	// Init containers behind the last that has started never ran and stay waiting; the first one counts as started in any case.
	started := min(1, len(s.InitContainerStatuses))
	for i := range s.InitContainerStatuses {
		if c := &s.InitContainerStatuses[i]; c.State.Waiting == nil || c.LastTerminationState.Terminated != nil {
			started = i + 1
		}
	}
	lose(s.InitContainerStatuses[:started])
	if !Terminal(s.Phase) && !IsStatic(pod) {
		s.Phase = corev1.PodFailed
	}
	return s
}

func lose(list []corev1.ContainerStatus) {
	for i := range list {
		if list[i].State.Terminated != nil {
			continue
		}
		started := false
		list[i].State = corev1.ContainerState{Terminated: lostState("The container could not be located when the pod was terminated")}
		list[i].Started, list[i].Ready = &started, false
	}
}

// hasInitialized tells whether regular containers may have run.
func hasInitialized(pod *corev1.Pod, s *corev1.PodStatus) bool {
	if len(pod.Spec.InitContainers) == 0 || anyRegularStarted(pod, byName(s.ContainerStatuses)) {
		return true
	}
	n := len(s.InitContainerStatuses)
	if n == 0 {
		return false
	}
	last := &s.InitContainerStatuses[n-1]
	return last.State.Terminated != nil && last.State.Terminated.ExitCode == 0 || last.LastTerminationState.Terminated != nil && last.LastTerminationState.Terminated.ExitCode == 0
}

func byName(list []corev1.ContainerStatus) map[string]*corev1.ContainerStatus {
	m := make(map[string]*corev1.ContainerStatus, len(list))
	for i := range list {
		m[list[i].Name] = &list[i]
	}
	return m
}
