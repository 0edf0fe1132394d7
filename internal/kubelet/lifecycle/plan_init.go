package lifecycle

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// initPlan is what becomes of the init containers.
type initPlan struct {
	start  []int // in spec order
	kill   []Kill
	resize []Ref
	failed bool // one failed for good: the pod is over
	done   bool // regular containers may run
}

// decideInit walks the init containers from the last to the first: the newest that the runtime knows tells how far the pod has come,
// since earlier ones may be collected already.
func decideInit(in Input) initPlan {
	list := in.Pod.Spec.InitContainers
	if len(list) == 0 {
		return initPlan{done: true}
	}
	plan := initPlan{done: regularAlive(in)}
	passed := plan.done
	for i := len(list) - 1; i >= 0; i-- {
		c := &list[i]
		seen := in.Observed.Container(c.Name)
		switch {
		case seen == nil:
			if passed && IsSidecar(c) {
				plan.start = append(plan.start, i)
			}
			continue
		case IsSidecar(c):
			plan.sidecar(in, i, c, seen, passed)
		case !passed:
			plan.once(in, i, c, seen)
		}
		if plan.failed {
			return initPlan{failed: true}
		}
		passed = true
	}
	if !passed {
		plan.start = append(plan.start, 0)
	}
	slices.Sort(plan.start)
	plan.start = slices.Compact(plan.start)
	return plan
}

func regularAlive(in Input) bool {
	return slices.ContainsFunc(in.Pod.Spec.Containers, func(c corev1.Container) bool {
		seen := in.Observed.Container(c.Name)
		return seen != nil && (seen.State == Running || seen.State == Created)
	})
}

// advance notes that init container i is through.
func (p *initPlan) advance(in Input, i int) {
	if i == len(in.Pod.Spec.InitContainers)-1 {
		p.done = true
		return
	}
	p.start = append(p.start, i+1)
}

// once plans a container that runs to completion and is the furthest that the pod has come to.
func (p *initPlan) once(in Input, i int, c *corev1.Container, seen *Container) {
	switch seen.State {
	case Running:
		if inPlace, _ := resized(in, c, seen); inPlace {
			p.resize = append(p.resize, Ref{Init, i})
		}
	case Created:
		p.start = append(p.start, i)
	case Exited:
		switch {
		case seen.ExitCode == 0:
			p.advance(in, i)
		case shouldStart(in.Pod, c, seen):
			p.start = append(p.start, i)
		default:
			p.failed = true
		}
	default:
		if restartPolicy(in.Pod, c) == corev1.RestartPolicyNever {
			p.failed = true
			return
		}
		p.restartUnknown(i, c, seen)
	}
}

func (p *initPlan) restartUnknown(i int, c *corev1.Container, seen *Container) {
	p.kill = append(p.kill, Kill{ID: seen.ID, Name: c.Name,
		Message: fmt.Sprintf("Init container is in %q state, try killing it before restart", seen.State)})
	p.start = append(p.start, i)
}

// sidecar plans a container that is kept running as long as the pod lives.
func (p *initPlan) sidecar(in Input, i int, c *corev1.Container, seen *Container, passed bool) {
	switch seen.State {
	case Created, Exited:
		p.start = append(p.start, i)
		return
	case Unknown:
		p.restartUnknown(i, c, seen)
		return
	}
	health := in.Health(c.Name, seen.ID)
	kill := Kill{ID: seen.ID, Name: c.Name}
	switch health.Startup {
	case Pending:
		return
	case Failure:
		kill.Message, kill.Reason = fmt.Sprintf("Init container %s failed startup probe", c.Name), KillStartupProbe
		p.kill = append(p.kill, kill)
		p.start = append(p.start, i)
		return
	}
	if i == len(in.Pod.Spec.InitContainers)-1 {
		p.done = true
	} else if !passed {
		p.start = append(p.start, i+1)
	}
	switch {
	case in.Hash(c) != seen.Hash:
		kill.Message, kill.Reason = fmt.Sprintf("Init container %s definition changed", c.Name), KillChanged
	case health.Liveness == Failure:
		kill.Message, kill.Reason = fmt.Sprintf("Init container %s failed liveness probe", c.Name), KillLivenessProbe
	default:
		inPlace, again := resized(in, c, seen)
		if inPlace {
			p.resize = append(p.resize, Ref{Init, i})
		}
		if !again {
			return
		}
		kill.Message, kill.Reason = fmt.Sprintf("Container %s resize requires restart", c.Name), KillChanged
	}
	p.kill = append(p.kill, kill)
	p.start = append(p.start, i)
}
