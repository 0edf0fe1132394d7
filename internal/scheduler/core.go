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
func (s *core) removeNode(name string) { s.cluster.removeNode(name) }

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
	s.queue.add(s.cluster.newPodInfo(pod), now)
}

func (s *core) setPlaced(pod *corev1.Pod, now time.Time) {
	s.queue.remove(pod.UID)
	s.dropNomination(pod.UID)
	old := s.cluster.removePod(pod.UID)
	s.cluster.addPod(s.cluster.newPodInfo(pod))
	if old == nil {
		s.queue.happened(podAdded, now)
		return
	}
	s.queue.happened(podChange(old.pod, pod), now)
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
	if slot, ok := k.best(s.cluster); ok {
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
	key := p.key()
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
	delete(s.classes, oldest)
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
	parts := make([]string, 0, len(counts))
	for reason, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", s.cluster.count, strings.Join(parts, ", ")), wait
}
