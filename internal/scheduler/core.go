package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	classes       map[string]*class
	decisions     uint64
	nominated     map[types.UID]*podInfo // preemptors that wait for their victims to go, accounted to their node
}

// decision is what is to be done with a pod.
type decision struct {
	pod *podInfo
	// node is where it goes: bind it there. Empty if no node will do.
	node string
	// message says why not; victims are to be evicted from nominate so that it will.
	message  string
	nominate string
	victims  []*podInfo
}

func newCore(schedulerName string) *core {
	return &core{
		schedulerName: schedulerName, cluster: newCluster(), queue: newQueue(), plugins: plugins(),
		classes: map[string]*class{}, nominated: map[types.UID]*podInfo{},
	}
}

// setNode tells of a new or changed node.
func (s *core) setNode(n *corev1.Node, now time.Time) { s.queue.happened(s.cluster.setNode(n), now) }

// removeNode tells that a node is gone.
func (s *core) removeNode(name string, now time.Time) {
	s.cluster.removeNode(name)
	s.queue.happened(nodeRemoved, now)
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
	s.queue.add(s.newPodInfo(pod), now)
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

// unbind takes back an assumption whose binding failed, and queues the pod again.
func (s *core) unbind(p *podInfo, now time.Time) {
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
	p := s.queue.next(now)
	if p == nil {
		return decision{}, false
	}
	s.dropNomination(p.pod.UID)
	k := s.classOf(p)
	k.refresh(s.cluster)
	if slot, ok := k.best(); ok {
		p.node = s.cluster.nodes[slot].api.Name
		s.cluster.addPod(p)
		return decision{pod: p, node: p.node}, true
	}
	d := decision{pod: p}
	var wait event
	d.message, wait = s.explain(k)
	var outcome string
	d.nominate, d.victims, outcome = s.preempt(p, k)
	if d.nominate != "" {
		s.nominate(p, d.nominate)
		wait |= podRemoved
	}
	if outcome != "" {
		d.message += " " + outcome
	}
	s.queue.refuse(p, wait, now)
	return d, true
}

// nominate keeps the room that the victims will leave for their preemptor.
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
	k, ok := s.classes[key]
	if !ok {
		if len(s.classes) >= mostClasses {
			s.forgetClass()
		}
		k = newClass(s.plugins, p, s.cluster)
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

// explain tells a person why no node will do, in upstream's words, and which events could change that.
func (s *core) explain(k *class) (string, event) {
	if s.cluster.count == 0 {
		return "no nodes available to schedule pods", nodeAdded
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
	wait := nodeAdded
	for _, r := range k.rules {
		if refusing[r.plugin] {
			wait |= r.wait
		}
	}
	if k.rejected != nil {
		return fmt.Sprintf("0/%d nodes are available: %s.", s.cluster.count, k.rejected.reasons[0]), wait
	}
	parts := make([]string, 0, len(counts))
	for reason, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", s.cluster.count, strings.Join(parts, ", ")), wait
}
