package lifecycle

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Input is all that a decision rests on. Read-only.
type Input struct {
	Pod      *corev1.Pod
	Observed *Observed
	Health   HealthFunc
	// Hash gives a container's spec the value that Container.Hash has for an unchanged one.
	Hash func(*corev1.Container) string
	// Resources writes what a container shall be granted, comparable to Container.Applied; nil leaves grants alone.
	Resources func(*corev1.Container) string
}

// Class tells the lists of containers in a PodSpec apart.
type Class int

// The classes of containers.
const (
	Regular Class = iota
	Init
	Ephemeral
)

// Ref names a container of a PodSpec.
type Ref struct {
	Class Class
	Index int
}

// Spec returns the container that the reference names. An ephemeral one is seen as an ordinary container.
func (r Ref) Spec(pod *corev1.Pod) *corev1.Container {
	switch r.Class {
	case Init:
		return &pod.Spec.InitContainers[r.Index]
	case Ephemeral:
		return (*corev1.Container)(&pod.Spec.EphemeralContainers[r.Index].EphemeralContainerCommon)
	default:
		return &pod.Spec.Containers[r.Index]
	}
}

// Find returns the reference of a container by its name.
func Find(pod *corev1.Pod, name string) (Ref, bool) {
	if i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
		return Ref{Regular, i}, true
	}
	if i := slices.IndexFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
		return Ref{Init, i}, true
	}
	if i := slices.IndexFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == name }); i >= 0 {
		return Ref{Ephemeral, i}, true
	}
	return Ref{}, false
}

// KillReason tells why a single container is killed; it chooses the grace period.
type KillReason int

// The reasons for which a container is killed while its pod goes on.
const (
	KillOther   KillReason = iota
	KillChanged            // the container's spec is another one
	KillStartupProbe
	KillLivenessProbe
)

// Kill names one container to stop.
type Kill struct {
	ID, Name string
	Message  string // of the Killing event
	Reason   KillReason
}

// Plan is what to do, in this order: kill the pod or single containers, remove, make the sandbox, start.
type Plan struct {
	// KillPod stops all containers and the sandbox.
	KillPod bool
	// CreateSandbox makes a new sandbox with this attempt number; else SandboxID is the one to use.
	CreateSandbox bool
	Attempt       uint32
	SandboxID     string
	// SandboxChanged is set when a former sandbox gives way.
	SandboxChanged bool

	Kill []Kill
	// Remove lists exited containers to remove before anything starts, for a restart of the whole pod. They are killed first where they run.
	Remove []Kill
	// Resize lists running containers whose grant changes in place.
	Resize []Ref
	Start  []Ref
}

// Empty tells whether there is nothing to do.
func (p *Plan) Empty() bool {
	return !p.KillPod && !p.CreateSandbox && len(p.Kill) == 0 && len(p.Remove) == 0 && len(p.Resize) == 0 && len(p.Start) == 0
}

// Replaces tells whether a running container is stopped to be started again.
func (p *Plan) Replaces(pod *corev1.Pod) bool {
	return slices.ContainsFunc(p.Kill, func(k Kill) bool {
		return slices.ContainsFunc(p.Start, func(r Ref) bool { return r.Spec(pod).Name == k.Name })
	})
}

// Decide says what brings the pod to what its spec wants. The pod must not be terminating.
func Decide(in Input) Plan {
	create, attempt, id := sandboxNeeded(in.Pod, in.Observed)
	if RestartsAll(in.Pod, in.Observed) {
		return Plan{SandboxID: id, Remove: removals(in.Pod, in.Observed)}
	}
	if create {
		return decideSandbox(in, attempt, id)
	}
	plan := Plan{SandboxID: id, Attempt: attempt}
	for i := range in.Pod.Spec.EphemeralContainers {
		if in.Observed.Container(in.Pod.Spec.EphemeralContainers[i].Name) == nil {
			plan.Start = append(plan.Start, Ref{Ephemeral, i})
		}
	}
	init := decideInit(in)
	plan.Kill = append(plan.Kill, init.kill...)
	plan.Resize = append(plan.Resize, init.resize...)
	for _, i := range init.start {
		plan.Start = append(plan.Start, Ref{Init, i})
	}
	if init.failed {
		plan.KillPod, plan.Start, plan.Resize = true, nil, nil
		return plan
	}
	if !init.done {
		return plan
	}
	if kept := decideRegular(in, &plan); !kept {
		// Nothing is left to run: sidecars alone don't keep a pod alive.
		plan.KillPod, plan.Start, plan.Resize = true, nil, nil
	}
	return plan
}

// sandboxNeeded tells whether the pod needs a new sandbox, its attempt number, and the ID of the newest one that exists.
func sandboxNeeded(pod *corev1.Pod, o *Observed) (create bool, attempt uint32, id string) {
	newest := o.Sandbox()
	if newest == nil {
		return true, 0, ""
	}
	ready := 0
	for i := range o.Sandboxes {
		if o.Sandboxes[i].Ready {
			ready++
		}
	}
	switch {
	case ready > 1, !newest.Ready, newest.HostNetwork != pod.Spec.HostNetwork:
		return true, newest.Attempt + 1, newest.ID
	case !pod.Spec.HostNetwork && len(newest.IPs) == 0:
		return true, newest.Attempt + 1, newest.ID
	}
	return false, newest.Attempt, newest.ID
}

// decideSandbox plans a pod without a usable sandbox: everything that ran in the former one is gone.
func decideSandbox(in Input, attempt uint32, formerID string) Plan {
	pod := in.Pod
	plan := Plan{KillPod: formerID != "", Attempt: attempt, SandboxID: formerID}
	if !CanRestart(pod) && attempt != 0 && len(in.Observed.Containers) != 0 {
		return plan
	}
	var start []Ref
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		if seen := in.Observed.Container(c.Name); seen != nil && seen.State == Exited && !restartsAfter(pod, c, seen.ExitCode) {
			continue
		}
		start = append(start, Ref{Regular, i})
	}
	if len(start) == 0 && anyRegularCreated(pod, in.Observed) {
		return plan
	}
	plan.CreateSandbox = true
	plan.SandboxChanged = formerID != ""
	plan.Start = start
	if len(pod.Spec.InitContainers) > 0 {
		plan.Start = []Ref{{Init, 0}}
	}
	return plan
}

func anyRegularCreated(pod *corev1.Pod, o *Observed) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return o.Container(c.Name) != nil })
}

// decideRegular plans the regular containers; it returns false when none runs or will run.
func decideRegular(in Input, plan *Plan) bool {
	kept := false
	for i := range in.Pod.Spec.Containers {
		c := &in.Pod.Spec.Containers[i]
		seen := in.Observed.Container(c.Name)
		if seen == nil || seen.State != Running {
			if !shouldStart(in.Pod, c, seen) {
				continue
			}
			kept = true
			plan.Start = append(plan.Start, Ref{Regular, i})
			if seen != nil && seen.State == Unknown {
				plan.Kill = append(plan.Kill, Kill{ID: seen.ID, Name: c.Name,
					Message: fmt.Sprintf("Container is in %q state, try killing it before restart", seen.State)})
			}
			continue
		}
		kill, restart := unfit(in, c, seen)
		if kill == nil {
			kept = true
			if inPlace, _ := resized(in, c, seen); inPlace {
				plan.Resize = append(plan.Resize, Ref{Regular, i})
			}
			continue
		}
		if restart {
			kept = true
			kill.Message += ", will be restarted"
			plan.Start = append(plan.Start, Ref{Regular, i})
		}
		plan.Kill = append(plan.Kill, *kill)
	}
	return kept
}

// unfit tells whether a running regular container has to go, and whether it comes back.
func unfit(in Input, c *corev1.Container, seen *Container) (kill *Kill, restart bool) {
	restart = restartPolicy(in.Pod, c) != corev1.RestartPolicyNever
	health := in.Health(c.Name, seen.ID)
	kill = &Kill{ID: seen.ID, Name: c.Name}
	switch {
	case in.Hash(c) != seen.Hash:
		kill.Message, kill.Reason = fmt.Sprintf("Container %s definition changed", c.Name), KillChanged
		return kill, true
	case health.Liveness == Failure:
		kill.Message = fmt.Sprintf("Container %s failed liveness probe", c.Name)
		kill.Reason = KillLivenessProbe
	case health.Startup == Failure:
		kill.Message = fmt.Sprintf("Container %s failed startup probe", c.Name)
		kill.Reason = KillStartupProbe
	default:
		if _, again := resized(in, c, seen); again {
			kill.Message = fmt.Sprintf("Container %s resize requires restart", c.Name)
			kill.Reason = KillChanged
			return kill, true
		}
		return nil, false
	}
	return kill, restart
}

// removals lists what a restart of the whole pod removes: regular containers, then init containers, those that asked for it last, so
// that an interrupted restart is seen and finished.
func removals(pod *corev1.Pod, o *Observed) []Kill {
	var others, sources []Kill
	add := func(c *corev1.Container) {
		for i := range o.Containers {
			seen := &o.Containers[i]
			if seen.Name != c.Name {
				continue
			}
			k := Kill{ID: seen.ID, Name: c.Name, Message: "killing"}
			if triggersRestartAll(c, seen) {
				sources = append(sources, k)
				continue
			}
			others = append(others, k)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		add(&pod.Spec.InitContainers[i])
	}
	return append(others, sources...)
}
