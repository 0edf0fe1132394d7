package scheduler

import (
	"container/heap"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Back-off of pods that could not be scheduled, and the longest that a pod waits for an event before it is tried anyway:
// upstream's defaults.
const (
	firstBackoff   = time.Second
	longestBackoff = 10 * time.Second
	longestWait    = 5 * time.Minute
	flushEvery     = 30 * time.Second
)

// place is where in the queue a pod is.
type place int

const (
	nowhere    place = iota
	active           // to be tried, in order
	backoff          // to be tried after a time
	waiting          // refused: to be tried after an event
	gatedPlace       // held back by its scheduling gates
)

// queue holds the pods without a node. Not safe for concurrent use.
type queue struct {
	pods    map[types.UID]*podInfo
	active  podHeap
	backoff podHeap
	waiting map[types.UID]*podInfo
	flushAt time.Time // when to look for pods that have waited too long
	// incoming counts the pods that came to each queue, by event, in upstream's words, until somebody reads it.
	incoming map[string]map[string]float64
	// blame counts the pods that plugins keep from being scheduled, until they are tried again, by plugin.
	blame map[string]int
}

// Upstream's names of queues and of the events that bring pods there.
const (
	queueActive        = "active"
	queueBackoff       = "backoff"
	queueUnschedulable = "unschedulable"

	cameNew         = "UnschedulablePodAdd"
	cameUpdated     = "UnschedulablePodUpdate"
	cameFromBackoff = "BackoffComplete"
	cameFromFailure = "ScheduleAttemptFailure"
	cameFromFlush   = "UnschedulableTimeout"
	cameFromForce   = "ForceActivate"
)

func (q *queue) came(to, why string) {
	if q.incoming[to] == nil {
		q.incoming[to] = map[string]float64{}
	}
	q.incoming[to][why]++
}

func newQueue() *queue {
	return &queue{
		pods:     map[types.UID]*podInfo{},
		waiting:  map[types.UID]*podInfo{},
		incoming: map[string]map[string]float64{},
		blame:    map[string]int{},
		active: podHeap{less: func(a, b *podInfo) bool {
			if a.priority != b.priority {
				return a.priority > b.priority
			}
			return a.queuedAt.Before(b.queuedAt)
		}},
		backoff: podHeap{less: func(a, b *podInfo) bool { return a.readyAt.Before(b.readyAt) }},
	}
}

// add puts a pod in, or back in after its spec has changed.
func (q *queue) add(p *podInfo, now time.Time) {
	why := cameNew
	if old := q.remove(p.pod.UID); old != nil {
		p.attempts, p.queuedAt, why = old.attempts, old.queuedAt, cameUpdated
	} else {
		p.queuedAt = now
	}
	q.pods[p.pod.UID] = p
	if p.gated() {
		p.place = gatedPlace
		q.accuse(p, []string{p.gate()})
		q.came(queueUnschedulable, why)
		return
	}
	q.activate(p, why)
}

// get returns a pod that is in the queue.
func (q *queue) get(uid types.UID) (*podInfo, bool) {
	p, ok := q.pods[uid]
	return p, ok
}

func (q *queue) activate(p *podInfo, why string) {
	q.came(queueActive, why)
	p.place = active
	heap.Push(&q.active, p)
}

// remove takes a pod out; nil if it isn't there.
func (q *queue) remove(uid types.UID) *podInfo {
	p, ok := q.pods[uid]
	if !ok {
		return nil
	}
	delete(q.pods, uid)
	q.leave(p)
	q.accuse(p, nil)
	return p
}

func (q *queue) leave(p *podInfo) {
	switch p.place {
	case active:
		heap.Remove(&q.active, p.index)
	case backoff:
		heap.Remove(&q.backoff, p.index)
	case waiting:
		delete(q.waiting, p.pod.UID)
	}
	p.place = nowhere
}

// next takes the pod to try next; nil if there is none now.
func (q *queue) next(now time.Time) *podInfo {
	q.advance(now)
	if q.active.Len() == 0 {
		return nil
	}
	p := heap.Pop(&q.active).(*podInfo)
	p.place = nowhere
	delete(q.pods, p.pod.UID)
	q.accuse(p, nil)
	p.attempts++
	return p
}

// advance moves pods whose back-off is over, and those that have waited too long.
func (q *queue) advance(now time.Time) {
	for q.backoff.Len() > 0 && !q.backoff.pods[0].readyAt.After(now) {
		q.activate(heap.Pop(&q.backoff).(*podInfo), cameFromBackoff)
	}
	if len(q.waiting) == 0 || now.Before(q.flushAt) {
		return
	}
	q.flushAt = now.Add(flushEvery)
	for _, p := range q.waiting {
		if now.Sub(p.readyAt) >= longestWait {
			q.leave(p)
			p.flushed = true
			q.activate(p, cameFromFlush)
		}
	}
}

// accuse notes which plugins keep a pod from being scheduled, in place of those that did.
func (q *queue) accuse(p *podInfo, plugins []string) {
	for _, plugin := range p.blamed {
		q.blame[plugin]--
	}
	for _, plugin := range plugins {
		q.blame[plugin]++
	}
	p.blamed = plugins
}

// refuse puts a pod back that no node would have, for these plugins: it waits for an event.
func (q *queue) refuse(p *podInfo, wait event, plugins []string, now time.Time) {
	q.pods[p.pod.UID] = p
	q.accuse(p, plugins)
	p.refusedBy, p.place, p.flushed = wait, waiting, false
	p.readyAt = now.Add(p.delay())
	if len(q.waiting) == 0 {
		q.flushAt = now.Add(longestWait)
	}
	q.waiting[p.pod.UID] = p
	q.came(queueUnschedulable, cameFromFailure)
}

// retry puts a pod back that failed for another reason: it is tried again after its back-off.
func (q *queue) retry(p *podInfo, now time.Time) {
	q.pods[p.pod.UID] = p
	p.place, p.readyAt = backoff, now.Add(p.delay())
	q.came(queueBackoff, cameFromFailure)
	heap.Push(&q.backoff, p)
}

// happened moves the pods that wait for such an event.
func (q *queue) happened(what event, now time.Time) {
	if what == 0 {
		return
	}
	q.happenedTo(what, now, func(*podInfo) bool { return true })
}

// happenedTo is happened for those pods that concerned tells of.
func (q *queue) happenedTo(what event, now time.Time, concerned func(*podInfo) bool) {
	for _, p := range q.waiting {
		if p.refusedBy&what != 0 && concerned(p) {
			q.wake(p, now, what.label())
		}
	}
}

// wake, for a reason in upstream's words, has a pod that waits tried again after its back-off.
func (q *queue) wake(p *podInfo, now time.Time, why string) {
	if p.place != waiting {
		return
	}
	q.leave(p)
	if p.readyAt.After(now) {
		p.place = backoff
		heap.Push(&q.backoff, p)
		q.came(queueBackoff, why)
		return
	}
	q.activate(p, why)
}

// wakeAt returns when advance has something to do next; false if never.
func (q *queue) wakeAt() (time.Time, bool) {
	var at time.Time
	if q.backoff.Len() > 0 {
		at = q.backoff.pods[0].readyAt
	}
	if len(q.waiting) > 0 && (at.IsZero() || q.flushAt.Before(at)) {
		at = q.flushAt
	}
	return at, !at.IsZero()
}

func (p *podInfo) delay() time.Duration {
	d := firstBackoff
	for i := 1; i < p.attempts && d < longestBackoff; i++ {
		d *= 2
	}
	return min(d, longestBackoff)
}

// podHeap is a heap of pods that know their place in it.
type podHeap struct {
	pods []*podInfo
	less func(a, b *podInfo) bool
}

func (h *podHeap) Len() int           { return len(h.pods) }
func (h *podHeap) Less(i, j int) bool { return h.less(h.pods[i], h.pods[j]) }
func (h *podHeap) Swap(i, j int) {
	h.pods[i], h.pods[j] = h.pods[j], h.pods[i]
	h.pods[i].index, h.pods[j].index = i, j
}
func (h *podHeap) Push(x any) {
	p := x.(*podInfo)
	p.index = len(h.pods)
	h.pods = append(h.pods, p)
}
func (h *podHeap) Pop() any {
	last := len(h.pods) - 1
	p := h.pods[last]
	h.pods[last] = nil
	h.pods = h.pods[:last]
	return p
}
