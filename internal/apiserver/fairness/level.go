package fairness

import (
	"math"
	"sync"
	"time"
)

// serviceTime is how long a request is taken to execute, in seconds, until it is known.
const serviceTime = 0.003

// A queuing says what a level does with requests that find no seat.
type queuing struct {
	exempt      bool
	deck        int // how many queues; 0 rejects
	hand        int
	lengthLimit int
}

// A level is a priority level at work.
type level struct {
	name string
	now  func() int64

	mu sync.Mutex
	queuing
	limit int // seats, at the moment
	stats map[string]*stats

	queues  map[int]*queue
	backlog []*queue // those with waiting requests, in no order
	spare   []*queue
	active  int // how many queues take part in the round robin
	robin   int // the queue that was served last

	// virtual is R: the service in seat-seconds that each active queue has had. advanced is when it was computed.
	virtual  float64
	advanced int64

	executing, seats      int // seats count what lingers too
	waiting, waitingSeats int
	seated                list
	turns                 int // requests that were dealt a hand

	dispatched, rejected, cancelled int
	demand                          integral
	meters                          levelMeters
	virtualMarks                    virtualMarks
}

// virtualMarks are virtual times that metrics tell.
type virtualMarks struct {
	set                                    bool
	dispatched, start                      float64
	min, max, discountedMin, discountedMax float64
}

func newLevel(name string, now func() int64) *level {
	l := &level{name: name, now: now, stats: map[string]*stats{}, queues: map[int]*queue{}, advanced: now()}
	l.meters = newLevelMeters(l.advanced)
	l.demand.begin(l.advanced)
	return l
}

// idle tells whether no request is in the level.
func (l *level) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting == 0 && l.executing == 0
}

// configure sets what the level's object says.
func (l *level) configure(q queuing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queuing = q
	l.meters.waiting.scale(l.now(), float64(max(1, q.lengthLimit)*max(1, q.deck)))
}

// setLimit gives the level a number of seats; denominator is what metrics hold their use against.
func (l *level) setLimit(seats int, denominator float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.advance(now)
	l.limit = seats
	for _, m := range []*meter{&l.meters.executing, &l.meters.seats, &l.meters.demand} {
		m.scale(now, denominator)
	}
	l.dispatchAll(now)
	l.settle(now)
}

// statsOf returns what is counted of a schema's requests in this level.
func (l *level) statsOf(schema string) *stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats[schema]
	if s == nil {
		s = newStats(l, schema)
		l.stats[schema] = s
	}
	return s
}

// advance brings the virtual time up to now. l.mu is held.
func (l *level) advance(now int64) {
	if l.active > 0 {
		rate := math.Min(float64(l.seats+l.waitingSeats), float64(l.limit)) / float64(l.active)
		l.virtual += rate * seconds(now-l.advanced)
	}
	l.advanced = now
}

func seconds(nanoseconds int64) float64 { return float64(nanoseconds) / float64(time.Second) }

// settle notes in the metrics how things stand after a change. l.mu is held.
func (l *level) settle(now int64) {
	demand := float64(l.seats + l.waitingSeats)
	l.demand.set(now, demand)
	l.meters.demand.set(now, demand)
	l.meters.executing.set(now, float64(l.executing))
	l.meters.seats.set(now, float64(l.seats))
	l.meters.waiting.set(now, float64(l.waiting))
}

// admit finds a ticket a seat, or a place in one of its flow's queues.
func (l *level) admit(t *Ticket, hash uint64) Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := t.arrivedAt
	s := t.schema.stats
	s.estimated.observe(float64(t.work.seats()))
	if l.deck == 0 {
		return l.admitUnqueued(t, now)
	}
	l.advance(now)
	t.arrivalR = l.virtual
	index := l.chooseQueue(hash)
	// A full queue takes one more request if there are seats: it won't stay.
	if q := l.queues[index]; q != nil && l.seats >= l.limit && q.waiting.length >= l.lengthLimit {
		return l.refuse(t, &s.full, now)
	}
	q := l.queueOf(index)
	if l.waiting == 0 && l.seats < l.limit && l.accommodates(t.work.seats()) {
		s.queueLength.observe(1) // as if it had been enqueued
		t.work.fit(l.limit)
		t.queue = q
		l.mark(q, q, q)
		l.robin = q.index
		l.start(t, now)
		l.settle(now)
		return Executing
	}
	t.ready = make(chan struct{})
	l.enqueue(q, t)
	s.queueLength.observe(float64(q.waiting.length))
	l.dispatchAll(now)
	l.settle(now)
	return Queued
}

// admitUnqueued admits to a level without queues, at once or not at all. l.mu is held.
func (l *level) admitUnqueued(t *Ticket, now int64) Outcome {
	if !l.accommodates(t.work.seats()) {
		return l.refuse(t, &t.schema.stats.concurrency, now)
	}
	l.start(t, now)
	l.settle(now)
	return Executing
}

func (l *level) refuse(t *Ticket, reason *int, now int64) Outcome {
	l.rejected++
	*reason++
	t.schema.stats.waited(false).observe(seconds(now - t.arrivedAt))
	return Rejected
}

// chooseQueue returns the queue of the flow's hand in which the least work waits. l.mu is held.
func (l *level) chooseQueue(hash uint64) int {
	var space [maxHand]int
	hand := deal(hash, l.deck, l.hand, &space)
	best, least := -1, math.Inf(1)
	for i := range hand {
		index := hand[(l.turns+i)%len(hand)]
		work := 0.0
		if q := l.queues[index]; q != nil {
			work = q.waitingWork
		}
		if work < least {
			best, least = index, work
		}
	}
	l.turns++
	return best
}

// accommodates tells whether there are so many seats. A request that is wider than the level goes alone. l.mu is held.
func (l *level) accommodates(seats int) bool {
	switch {
	case l.exempt:
		return true
	case seats > l.limit:
		return l.executing == 0
	}
	return l.seats+seats <= l.limit
}

// start seats a ticket that stands in no queue's line. l.mu is held.
func (l *level) start(t *Ticket, now int64) {
	s, seats := t.schema.stats, t.work.seats()
	t.startedAt, t.place = now, seated
	l.seated.push(t)
	l.executing++
	l.seats += seats
	l.dispatched++
	s.executing++
	s.seats += seats
	s.dispatched++
	if !l.exempt {
		s.waited(true).observe(seconds(now - t.arrivedAt))
	}
	if q := t.queue; q != nil {
		q.executing++
		q.seats += seats
		q.next += t.work.total()
	}
}

// dispatchAll seats waiting requests while there is room. l.mu is held.
func (l *level) dispatchAll(now int64) {
	for l.waiting > 0 && l.seats < l.limit {
		q := l.due()
		t := q.waiting.head
		if !l.accommodates(t.work.seats()) {
			t.schema.stats.unaccommodated++
			return
		}
		l.dequeue(t)
		t.work.fit(l.limit)
		l.robin = q.index
		l.start(t, now)
		q.bound()
		close(t.ready)
	}
}

// due returns the queue whose next request finishes first in virtual time; of several, the one that is next in turn. l.mu is held.
func (l *level) due() *queue {
	var best, first, last *queue
	var finish float64
	turn := func(q *queue) uint32 { return uint32(q.index - l.robin - 1) }
	for _, q := range l.backlog {
		if first == nil || q.next < first.next {
			first = q
		}
		if last == nil || q.next > last.next {
			last = q
		}
		f := q.next + q.waiting.head.work.total()
		if best == nil || f < finish || f == finish && turn(q) < turn(best) {
			best, finish = q, f
		}
	}
	l.mark(best, first, last)
	return best
}

// mark remembers virtual times for the metrics: of the queue that is served, and of the first and the last of those that could be.
func (l *level) mark(served, first, last *queue) {
	inProgress := func(q *queue) float64 { return q.next - float64(q.seats)*serviceTime }
	l.virtualMarks = virtualMarks{
		set: true, dispatched: l.virtual, start: served.next, min: first.next, max: last.next,
		discountedMin: inProgress(first), discountedMax: inProgress(last),
	}
}

// abandon takes a ticket out of its queue, unless it has been dispatched.
func (l *level) abandon(t *Ticket, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.place != waiting {
		return false
	}
	l.advance(now)
	q, s := t.queue, t.schema.stats
	l.dequeue(t)
	q.bound()
	l.settleQueue(q, true)
	l.rejected++
	l.cancelled++
	s.timedOut++
	s.waited(false).observe(seconds(now - t.arrivedAt))
	l.dispatchAll(now) // a wide request may have stood in the way
	l.settle(now)
	return true
}

// finish takes a ticket out of its seats, now or, if its work goes on in the watchers, a little later.
func (l *level) finish(t *Ticket, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(now)
	q, s, work := t.queue, t.schema.stats, t.work
	t.place = outside
	l.seated.remove(t)
	l.executing--
	s.executing--
	took := seconds(now - t.startedAt)
	s.executed(t.info.Verb).observe(took)
	if q != nil {
		q.executing--
		q.next += float64(work.initial) * (took - serviceTime)
		q.bound()
		if !q.active() {
			l.active--
		}
	}
	if work.lingers <= 0 {
		l.release(s, q, work.seats(), now)
		return
	}
	time.AfterFunc(work.lingers, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		now := l.now()
		l.advance(now)
		l.release(s, q, work.seats(), now)
	})
	l.settle(now)
}

// release gives seats back to those who wait for them. l.mu is held.
func (l *level) release(s *stats, q *queue, seats int, now int64) {
	l.seats -= seats
	s.seats -= seats
	if q != nil {
		q.seats -= seats
		l.settleQueue(q, false)
	}
	l.dispatchAll(now)
	l.settle(now)
}
