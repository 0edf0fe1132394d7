package fairness

// A queue holds the waiting requests of the flows that were dealt it. It exists while it has requests or their seats.
type queue struct {
	index     int
	waiting   list
	executing int
	seats     int // in use, those that linger included

	waitingSeats   int
	waitingInitial int
	waitingWork    float64

	// next is the virtual time at which the queue's next request starts.
	next float64
	// backlog is the queue's place in the level's list of queues with waiting requests.
	backlog int
}

// active tells whether the queue takes part in the imagined round robin.
func (q *queue) active() bool { return q.waiting.length > 0 || q.executing > 0 }

func (q *queue) add(t *Ticket) {
	q.waiting.push(t)
	q.waitingSeats += t.work.seats()
	q.waitingInitial += t.work.initial
	q.waitingWork += t.work.total()
}

func (q *queue) remove(t *Ticket) {
	q.waiting.remove(t)
	q.waitingSeats -= t.work.seats()
	q.waitingInitial -= t.work.initial
	if q.waitingWork -= t.work.total(); q.waiting.length == 0 {
		q.waitingWork = 0 // rounding errors end here
	}
}

// bound keeps the queue from saving up service: its next request doesn't start before it arrived.
func (q *queue) bound() {
	if head := q.waiting.head; head != nil && q.next < head.arrivalR {
		q.next = head.arrivalR
	}
}

// queueOf returns the level's queue of that number, which becomes active if it wasn't. l.mu is held.
func (l *level) queueOf(index int) *queue {
	q := l.queues[index]
	if q == nil {
		if n := len(l.spare); n > 0 {
			q, l.spare = l.spare[n-1], l.spare[:n-1]
		} else {
			q = &queue{}
		}
		*q = queue{index: index, backlog: -1}
		l.queues[index] = q
	}
	if !q.active() {
		q.next = l.virtual
		l.active++
	}
	return q
}

// settleQueue forgets a queue that has nothing left. wasActive tells what it was before the caller's change. l.mu is held.
func (l *level) settleQueue(q *queue, wasActive bool) {
	if q.active() {
		return
	}
	if wasActive {
		l.active--
	}
	if q.seats > 0 {
		return
	}
	delete(l.queues, q.index)
	if len(l.spare) < maxSpare {
		l.spare = append(l.spare, q)
	}
}

// maxSpare bounds the queues that are kept for reuse.
const maxSpare = 64

// enqueue puts a ticket at the end of a queue. l.mu is held.
func (l *level) enqueue(q *queue, t *Ticket) {
	q.add(t)
	if q.backlog < 0 {
		q.backlog = len(l.backlog)
		l.backlog = append(l.backlog, q)
	}
	t.queue, t.place = q, waiting
	l.waiting++
	l.waitingSeats += t.work.seats()
	t.schema.stats.waiting++
	t.schema.stats.waitingSeats += t.work.seats()
	q.bound()
}

// dequeue takes a ticket out of its queue, wherever it stands. l.mu is held.
func (l *level) dequeue(t *Ticket) {
	q := t.queue
	q.remove(t)
	if q.waiting.length == 0 {
		last := l.backlog[len(l.backlog)-1]
		l.backlog[q.backlog], last.backlog = last, q.backlog
		l.backlog, q.backlog = l.backlog[:len(l.backlog)-1], -1
	}
	t.place = outside
	l.waiting--
	l.waitingSeats -= t.work.seats()
	t.schema.stats.waiting--
	t.schema.stats.waitingSeats -= t.work.seats()
}
