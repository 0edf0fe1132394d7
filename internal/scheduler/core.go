package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
)

// mostClasses bounds the classes that are kept; the one that was not used for the longest goes first.
const mostClasses = 256

// core is the whole of deciding: told of nodes and pods, it says what to do with the next pod. It takes the time as an argument
// and does nothing itself. Not safe for concurrent use.
type core struct {
	schedulerName string
	cluster       *cluster
	queue         *queue
	plugins       []plugin
	passing       *class // of the pod with volumes or claims that was decided last
	classes       map[string]*class
	decisions     uint64
	nominated     map[types.UID]*podInfo // pods that wait for room or volumes on a node, accounted to it
	budgets       map[string]*policyv1.PodDisruptionBudget
	held          map[types.UID]*podInfo // pods whose claims are not there yet
	points        *points
}

// decision is what is to be done with a pod.
type decision struct {
	pod   *podInfo
	began time.Time // for metrics
	// node is where it goes: bind it there. Empty if no node will do.
	node string
	// volumes are to be written, and the pod not bound: it is tried again when its claims are bound.
	volumes *volumePlan
	// claims are to be written before the pod is bound, and if it waits for them, it isn't bound but tried again.
	claims *claimPlan
	// release frees devices.
	release release
	// message says why not; victims are to be evicted from nominate so that it will.
	message  string
	nominate string
	victims  []*podInfo
	// outbid are pods that waited for room on that node and no longer do.
	outbid []*podInfo
	// keepNomination is set where the pod goes on waiting for the node it was nominated to.
	keepNomination bool
}

func newCore(schedulerName string) *core {
	return &core{
		schedulerName: schedulerName, cluster: newCluster(), queue: newQueue(), plugins: plugins(),
		classes: map[string]*class{}, nominated: map[types.UID]*podInfo{}, budgets: map[string]*policyv1.PodDisruptionBudget{}, held: map[types.UID]*podInfo{},
	}
}

// setNode tells of a new or changed node.
func (s *core) setNode(n *corev1.Node, now time.Time) { s.queue.happened(s.cluster.setNode(n), now) }

// removeNode tells that a node is gone.
func (s *core) removeNode(name string, now time.Time) {
	s.cluster.removeNode(name)
	s.queue.happened(nodeRemoved, now)
}

// setBudget tells of a new or changed disruption budget; nil is one that is gone.
func (s *core) setBudget(namespace, name string, b *policyv1.PodDisruptionBudget) {
	put(s.budgets, namespace+"/"+name, b)
}

// setVolumes tells of a change of storage, which change makes in what is known of it.
func (s *core) setVolumes(now time.Time, change func(*volumes)) {
	change(&s.cluster.volumes)
	s.queue.happened(volumesChanged, now)
}

// setNamespace tells of a new or changed namespace; nil is one that is gone.
func (s *core) setNamespace(name string, ns *corev1.Namespace, now time.Time) {
	if !s.cluster.setNamespace(name, ns) {
		return
	}
	for key, k := range s.classes {
		if len(k.across) > 0 {
			s.forget(key)
		}
	}
	s.queue.happened(podAdded|podRemoved, now)
}

// setPod tells of a new or changed pod.
func (s *core) setPod(pod *corev1.Pod, now time.Time) {
	if finished(pod) {
		s.removePod(pod.UID, now)
		return
	}
	if pod.Spec.NodeName != "" {
		s.setPlaced(pod, now)
		return
	}
	if pod.Spec.SchedulerName != s.schedulerName || pod.DeletionTimestamp != nil {
		s.queue.remove(pod.UID)
		s.dropNomination(pod.UID)
		return
	}
	if _, assumed := s.cluster.pods[pod.UID]; assumed {
		return // Its binding is under way.
	}
	if old, ok := s.queue.get(pod.UID); ok && sameSchedulingSpec(old.pod, pod) {
		old.pod = pod
		return
	}
	p := s.newPodInfo(pod)
	if p.held = s.cluster.holds(pod); p.held {
		s.held[pod.UID] = p
	}
	s.queue.add(p, now)
	if node := pod.Status.NominatedNodeName; node != "" && s.nominated[pod.UID] == nil {
		s.nominate(p, node) // Before a restart, or by somebody else.
	}
}

func (s *core) setPlaced(pod *corev1.Pod, now time.Time) {
	s.queue.remove(pod.UID)
	s.dropNomination(pod.UID)
	after := s.newPodInfo(pod)
	before := s.cluster.pods[pod.UID]
	if before == nil {
		s.cluster.addPod(after)
		s.queue.happened(podAdded, now)
		return
	}
	if before.node == after.node && before.priority == after.priority && placedChange(before, after) == 0 {
		before.pod = pod // What is accounted stays as it is.
		before.forgetKey()
		return
	}
	s.cluster.removePod(pod.UID)
	s.cluster.addPod(after)
	s.queue.happened(placedChange(before, after), now)
}

// newPodInfo works out what is known of a pod.
func (s *core) newPodInfo(pod *corev1.Pod) *podInfo {
	if len(s.cluster.carried) >= s.cluster.sweepAt {
		for key := range s.classes {
			s.forget(key)
		}
		s.cluster.sweepCarried(func(yield func(*podInfo) bool) {
			for _, all := range []map[types.UID]*podInfo{s.queue.pods, s.cluster.pods, s.nominated} {
				for _, p := range all {
					if !yield(p) {
						return
					}
				}
			}
		})
	}
	return s.cluster.newPodInfo(pod)
}

// removePod tells that a pod is gone, or has ended.
func (s *core) removePod(uid types.UID, now time.Time) {
	s.queue.remove(uid)
	if s.dropNomination(uid) || s.cluster.removePod(uid) != nil {
		s.queue.happened(podRemoved, now)
	}
}

// unbind takes back a decision that could not be carried out, and queues the pod again.
func (s *core) unbind(p *podInfo, now time.Time) {
	if p.unassume != nil {
		p.unassume()
		p.unassume = nil
	}
	if waiting, ok := s.queue.get(p.pod.UID); ok && waiting == p {
		s.dropNomination(p.pod.UID)
		s.queue.remove(p.pod.UID)
		s.queue.retry(p, now)
		return
	}
	if s.cluster.pods[p.pod.UID] != p {
		return // It is gone, or was told of meanwhile.
	}
	s.cluster.removePod(p.pod.UID)
	p.node = ""
	s.queue.retry(p, now)
	s.queue.happened(podRemoved, now)
}

// next decides about the next pod in the queue; false if there is none to try now. The decision is assumed to be carried
// out: unbind takes it back.
func (s *core) next(now time.Time) (decision, bool) {
	for {
		p := s.queue.next(now)
		if p == nil {
			return decision{}, false
		}
		if d := s.decide(p, now); !d.waitsOnly() {
			return d, true
		}
		// All is ordered already: the pod goes on waiting for its volumes or devices.
	}
}

// waitsOnly tells that there is nothing to be done.
func (d *decision) waitsOnly() bool {
	return d.volumes != nil && len(d.volumes.volumes)+len(d.volumes.claims) == 0 || d.claims != nil && d.claims.waits && len(d.claims.steps) == 0
}

func (s *core) decide(p *podInfo, now time.Time) decision {
	s.cluster.now = now
	nominated := ""
	if r := s.nominated[p.pod.UID]; r != nil {
		nominated = r.node
	}
	s.dropNomination(p.pod.UID)
	lesser := s.setAside(p.priority)
	defer s.putBack(lesser)
	k, n := s.choose(p, nominated)
	if n == nil {
		return s.refuse(p, k, nominated, now)
	}
	return s.place(p, k, n, now)
}

// choose finds a pod's class and the node for it: the one it was nominated to, if that will do, else the best; nil if none will.
func (s *core) choose(p *podInfo, nominated string) (*class, *node) {
	watch := s.points.start()
	k := s.classOf(p)
	for _, e := range k.evaluations {
		e.Inc()
	}
	s.points.passed(pointPreFilter, watch.lap(), k.rejected == nil)
	k.refresh(s.cluster)
	if n := s.cluster.byName[nominated]; n != nil && k.verdict(n.slot) == nil {
		s.points.passed(pointFilter, watch.lap(), true)
		return k, n
	}
	judging := watch.lap()
	slot, ok := k.best()
	s.points.passed(pointFilter, judging, ok)
	if !ok {
		return k, nil
	}
	s.points.passed(pointScore, watch.lap(), true)
	return k, s.cluster.nodes[slot]
}

// place gives a pod a node, or asks for the volumes and devices that it needs there first.
func (s *core) place(p *podInfo, k *class, n *node, now time.Time) decision {
	if claims, wrong := s.cluster.volumes.sortClaims(p.pod); claims != nil && wrong == "" {
		if plan, _ := s.cluster.volumes.plan(claims, n.api); plan.waits {
			p.unassume = s.cluster.volumes.assume(plan)
			p.attempts--
			s.queue.refuse(p, volumesChanged, nil, now)
			p.readyAt = now
			s.nominate(p, n.api.Name)
			return decision{pod: p, node: n.api.Name, volumes: &plan}
		}
	}
	if k.claims != nil {
		if plan := k.claims.plan(n.slot); plan.waits || len(plan.steps) > 0 {
			return s.placeWithClaims(p, plan, n, now)
		}
	}
	p.node = n.api.Name
	s.cluster.addPod(p)
	return decision{pod: p, node: p.node}
}

// refuse says why a pod has no node, and looks for pods that could make room.
func (s *core) refuse(p *podInfo, k *class, nominated string, now time.Time) decision {
	d := decision{pod: p}
	message, wait, plugins := s.explain(k)
	d.message = message
	var found preemption
	if d.release = k.freeable(); d.release.message != notFound && s.cluster.count > 0 {
		watch := s.points.start()
		found = s.preempt(p, k, nominated, now)
		s.points.passed(pointPostFilter, watch.lap(), found.node != "")
	}
	if s.cluster.count > 0 {
		d.message += " " + d.release.message
	}
	if found.outcome != "" {
		d.message += ", " + found.outcome
	}
	d.nominate, d.victims, d.keepNomination = found.node, found.victims, found.keep
	if d.nominate != "" {
		d.outbid = s.outbid(p, d.nominate, now)
	}
	if d.nominate != "" || d.keepNomination {
		s.nominate(p, cmp.Or(d.nominate, nominated))
		wait |= podRemoved
	}
	s.queue.refuse(p, wait, plugins, now)
	return d
}

// setAside takes the pods with less than a priority that wait for room out of account: they don't count against a pod that has it.
func (s *core) setAside(priority int32) []*podInfo {
	var out []*podInfo
	for _, r := range s.nominated {
		n := s.cluster.byName[r.node]
		if r.priority >= priority || n == nil {
			continue
		}
		s.cluster.account(n, r, -1)
		s.cluster.changes.add(n.slot)
		out = append(out, r)
	}
	return out
}

// putBack is the opposite of setAside, for those that still wait.
func (s *core) putBack(all []*podInfo) {
	for _, r := range all {
		if n := s.cluster.byName[r.node]; n != nil && s.nominated[r.pod.UID] == r {
			s.cluster.account(n, r, 1)
			s.cluster.changes.add(n.slot)
		}
	}
}

// outbid ends the waiting of pods with less priority for room on a node that now goes to p. They were set aside.
func (s *core) outbid(p *podInfo, node string, now time.Time) []*podInfo {
	var out []*podInfo
	for uid, r := range s.nominated {
		if r.node != node || r.priority >= p.priority {
			continue
		}
		delete(s.nominated, uid)
		if waiting, ok := s.queue.get(uid); ok {
			s.queue.wake(waiting, now, cameFromForce)
		}
		out = append(out, r)
	}
	return out
}

// nominate keeps room on a node for a pod that waits for it.
func (s *core) nominate(p *podInfo, node string) {
	reserved := *p
	reserved.node, reserved.reserved = node, true
	s.nominated[p.pod.UID] = &reserved
	s.cluster.addPod(&reserved)
	delete(s.cluster.pods, p.pod.UID) // It has no node in the API's sense; the node knows it.
}

func (s *core) dropNomination(uid types.UID) bool {
	p, ok := s.nominated[uid]
	if !ok {
		return false
	}
	delete(s.nominated, uid)
	s.cluster.pods[uid] = p
	s.cluster.removePod(uid)
	return true
}

func (s *core) classOf(p *podInfo) *class {
	s.decisions++
	key := p.key(s.cluster)
	if looksAtVolumes(p.pod) || s.cluster.looksAtDevices(p) {
		// Storage and devices are not kept by class: what is known of them now is looked at anew.
		if s.passing != nil {
			s.passing.release()
		}
		s.passing = newClass(s.plugins, p, s.cluster)
		s.passing.evaluations = s.points.evaluations(s.passing.rules)
		return s.passing
	}
	k, ok := s.classes[key]
	if !ok {
		if len(s.classes) >= mostClasses {
			s.forgetClass()
		}
		k = newClass(s.plugins, p, s.cluster)
		k.evaluations = s.points.evaluations(k.rules)
		s.classes[key] = k
	}
	k.usedAt = s.decisions
	return k
}

func (s *core) forgetClass() {
	oldest := slices.MinFunc(slices.Collect(maps.Keys(s.classes)), func(a, b string) int {
		return int(int64(s.classes[a].usedAt) - int64(s.classes[b].usedAt))
	})
	s.forget(oldest)
}

func (s *core) forget(key string) {
	s.classes[key].release()
	delete(s.classes, key)
}

// explain tells a person why no node will do, in upstream's words, which events could change that, and which plugins are to blame.
func (s *core) explain(k *class) (message string, wait event, plugins []string) {
	if s.cluster.count == 0 {
		return "no nodes available to schedule pods", nodeAdded, nil
	}
	counts := map[string]int{}
	refusing := map[string]bool{}
	for slot, n := range s.cluster.nodes {
		if n == nil {
			continue
		}
		if no := k.verdict(slot); no != nil {
			refusing[no.plugin] = true
			for _, reason := range no.reasons {
				counts[reason]++
			}
		}
	}
	wait = nodeAdded
	for _, r := range k.rules {
		if refusing[r.plugin] {
			wait |= r.wait
		}
	}
	if k.rejected != nil {
		return fmt.Sprintf("0/%d nodes are available: %s.", s.cluster.count, k.rejected.reasons[0]), wait, []string{k.rejected.plugin}
	}
	parts := make([]string, 0, len(counts))
	for reason, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", s.cluster.count, strings.Join(parts, ", ")), wait, slices.Collect(maps.Keys(refusing))
}
