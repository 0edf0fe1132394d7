package daemonset

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"clipper.dev/clipper/internal/controller/podcontrol"
)

// burst bounds how many pods one reconciliation creates or deletes.
const burst = 250

// state is what a decision is made from. Read-only.
type state struct {
	ds    *appsv1.DaemonSet
	nodes []*corev1.Node
	pods  []*corev1.Pod // the set's own
	hash  string        // of the current template
	// backoff returns how long a failed pod of a node must stay before it's replaced.
	backoff func(node string) time.Duration
	now     time.Time
}

// plan is what to do.
type plan struct {
	create        []string // nodes to make a pod for
	delete        []*corev1.Pod
	failed, ended []*corev1.Pod // among delete: those that are told of
	again         time.Duration
}

type planner struct {
	state
	plan
	byNode             map[string][]*corev1.Pod // oldest first
	surge, unavailable int
	desired            int
}

// makePlan decides the next step: first that each node has what it should have, then that it's of the current template.
func makePlan(s state) plan {
	p := newPlanner(s)
	if s.ds.DeletionTimestamp != nil {
		return p.plan
	}
	for _, node := range p.nodes {
		p.settle(node)
	}
	p.removeFromLostNodes()
	if len(p.create)+len(p.delete) == 0 && p.ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if p.surge > 0 {
			p.rollBeside()
		} else {
			p.rollInPlace()
		}
	}
	p.create = p.create[:min(len(p.create), burst)]
	p.delete = p.delete[:min(len(p.delete), burst)]
	return p.plan
}

func newPlanner(s state) *planner {
	p := &planner{state: s, byNode: map[string][]*corev1.Pod{}}
	for _, pod := range s.pods {
		if podcontrol.Terminal(pod) && pod.DeletionTimestamp != nil {
			continue // it has ended, and its node is free for another
		}
		node := nodeOf(pod)
		p.byNode[node] = append(p.byNode[node], pod)
	}
	for _, list := range p.byNode {
		slices.SortFunc(list, func(a, b *corev1.Pod) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
	}
	for _, node := range s.nodes {
		if run, _ := wants(s.ds, node); run {
			p.desired++
		}
	}
	if r := s.ds.Spec.UpdateStrategy.RollingUpdate; r != nil {
		p.surge = scaled(r.MaxSurge, p.desired)
		p.unavailable = scaled(r.MaxUnavailable, p.desired)
	}
	if p.surge == 0 && p.unavailable == 0 {
		p.unavailable = 1
	}
	return p
}

func scaled(v *intstr.IntOrString, total int) int {
	if v == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, total, true)
	if err != nil {
		return 0 // validation lets no such value in
	}
	return n
}

// settle gives a node its pod, or takes away what it shouldn't have.
func (p *planner) settle(node *corev1.Node) {
	run, stay := wants(p.ds, node)
	pods := p.byNode[node.Name]
	switch {
	case run && len(pods) == 0:
		p.create = append(p.create, node.Name)
	case stay:
		p.tidy(node.Name, pods)
	default:
		for _, pod := range pods {
			p.remove(pod)
		}
	}
}

func (p *planner) remove(pod *corev1.Pod) {
	if pod.DeletionTimestamp == nil {
		p.delete = append(p.delete, pod)
	}
}

// tidy replaces pods of a node that have ended, and removes those that are too many: the older stays.
func (p *planner) tidy(node string, pods []*corev1.Pod) {
	var running []*corev1.Pod
	for _, pod := range pods {
		switch {
		case pod.DeletionTimestamp != nil:
		case pod.Status.Phase == corev1.PodFailed:
			if wait := p.backoff(node); wait > 0 {
				p.look(wait)
				continue
			}
			p.failed = append(p.failed, pod)
			p.delete = append(p.delete, pod)
		case pod.Status.Phase == corev1.PodSucceeded:
			p.ended = append(p.ended, pod)
			p.delete = append(p.delete, pod)
		default:
			running = append(running, pod)
		}
	}
	if p.surge == 0 {
		for _, pod := range running[min(1, len(running)):] {
			p.remove(pod)
		}
		return
	}
	// While rolling with a surge a node may have one old pod and one new.
	seenOld, seenNew := false, false
	for _, pod := range running {
		seen := &seenOld
		if p.current(pod) {
			seen = &seenNew
		}
		if *seen {
			p.remove(pod)
		}
		*seen = true
	}
}

// removeFromLostNodes deletes pods that wait for a node that has gone.
func (p *planner) removeFromLostNodes() {
	known := map[string]bool{}
	for _, node := range p.nodes {
		known[node.Name] = true
	}
	for name, pods := range p.byNode {
		if known[name] {
			continue
		}
		for _, pod := range pods {
			if pod.Spec.NodeName == "" { // a pod that was bound is the pod collector's
				p.remove(pod)
			}
		}
	}
}

func (p *planner) look(after time.Duration) {
	if p.again == 0 || after < p.again {
		p.again = after
	}
}

// current tells whether a pod is of the current template.
func (p *planner) current(pod *corev1.Pod) bool {
	if pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == p.hash {
		return true
	}
	g, ok := p.ds.Annotations[generationAnnotation]
	return ok && pod.Labels[generationLabel] == g
}

func (p *planner) available(pod *corev1.Pod) bool {
	wait := podcontrol.AvailableAfter(pod, p.ds.Spec.MinReadySeconds, p.now)
	if wait != nil && *wait > 0 {
		p.look(*wait)
	}
	return wait != nil && *wait <= 0
}

// pair returns the old and the new pod of a node that aren't being deleted.
func (p *planner) pair(node string) (old, now *corev1.Pod) {
	for _, pod := range p.byNode[node] {
		switch {
		case pod.DeletionTimestamp != nil:
		case p.current(pod):
			now = pod
		default:
			old = pod
		}
	}
	return old, now
}

// rollInPlace deletes old pods, whose successors then come: those that aren't available anyway, and others as the budget allows.
func (p *planner) rollInPlace() {
	budget := p.unavailable
	var candidates []*corev1.Pod
	for _, node := range p.nodes {
		if run, stay := wants(p.ds, node); !run && !stay {
			continue
		}
		old, now := p.pair(node.Name)
		switch {
		case now != nil:
			if !p.available(now) {
				budget--
			}
		case old == nil:
			if run, _ := wants(p.ds, node); run || len(p.byNode[node.Name]) > 0 {
				budget-- // it is on its way out or yet to come
			}
		case !p.available(old):
			budget--
			p.delete = append(p.delete, old)
		default:
			candidates = append(candidates, old)
		}
	}
	p.delete = append(p.delete, candidates[:max(min(budget, len(candidates)), 0)]...)
}

// rollBeside makes new pods beside old ones, as many as the surge allows, and deletes an old pod once its successor is available.
func (p *planner) rollBeside() {
	budget := p.surge
	var candidates []string
	for _, node := range p.nodes {
		run, stay := wants(p.ds, node)
		if !stay {
			continue
		}
		old, now := p.pair(node.Name)
		switch {
		case old == nil:
		case now == nil && !run:
			// The node takes no new pod: the old one goes when it's of no use any more.
			if !p.available(old) {
				p.delete = append(p.delete, old)
			}
		case now == nil && !p.available(old):
			p.create = append(p.create, node.Name)
		case now == nil:
			candidates = append(candidates, node.Name)
		case p.available(now):
			p.delete = append(p.delete, old)
		default:
			budget--
		}
	}
	p.create = append(p.create, candidates[:max(min(budget, len(candidates)), 0)]...)
}

// makeStatus counts nodes and their pods.
func makeStatus(s state, collisions *int32) appsv1.DaemonSetStatus {
	p := newPlanner(s)
	out := appsv1.DaemonSetStatus{ObservedGeneration: s.ds.Generation, DesiredNumberScheduled: int32(p.desired), CollisionCount: collisions, Conditions: s.ds.Status.Conditions}
	for _, node := range s.nodes {
		run, _ := wants(s.ds, node)
		pods := p.byNode[node.Name]
		switch {
		case !run && len(pods) > 0:
			out.NumberMisscheduled++
		case run && len(pods) > 0:
			out.CurrentNumberScheduled++
			pod := pods[0]
			if podcontrol.Ready(pod) {
				out.NumberReady++
				if podcontrol.Available(pod, s.ds.Spec.MinReadySeconds, s.now) {
					out.NumberAvailable++
				}
			}
			if p.current(pod) {
				out.UpdatedNumberScheduled++
			}
		}
	}
	out.NumberUnavailable = out.DesiredNumberScheduled - out.NumberAvailable
	return out
}
