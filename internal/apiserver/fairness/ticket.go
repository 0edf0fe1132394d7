package fairness

import (
	"context"

	"clipper.dev/clipper/internal/apiserver/request"
)

// An Outcome is what Admit decides.
type Outcome int

// What Admit decides.
const (
	Executing Outcome = iota // go on, and Leave at the end
	Queued                   // Wait
	Rejected                 // there is no room, and none to wait in
)

// A Ticket is one request's place, in a queue and then in a seat. Its zero value is for Admit to fill in; it must not be copied.
type Ticket struct {
	c         *Controller
	schema    *schema
	tally     *tally
	user      string
	flow      string // what tells this flow from others of the schema
	info      *request.Info
	work      estimate
	queue     *queue // nil where there are none
	arrivedAt int64
	startedAt int64
	arrivalR  float64 // the virtual time of the arrival
	place     place

	previous, next *Ticket       // in the queue, or among those that execute
	ready          chan struct{} // closed at dispatch; nil for a request that found room at once
}

// A place is where a ticket is.
type place uint8

const (
	outside place = iota
	waiting
	seated
)

// Wait returns true once the request may go on, and false if that takes longer than ctx lasts.
func (t *Ticket) Wait(ctx context.Context) bool {
	select {
	case <-t.ready:
	case <-ctx.Done():
		if t.schema.level.abandon(t, t.c.now()) {
			t.tally.queued(-1, t.c.now())
			return false
		}
	}
	now := t.c.now()
	t.tally.queued(-1, now)
	t.tally.executes(1, now)
	return true
}

// Leave gives the seats back. Calls after the first do nothing, and neither do those before Admit or of no ticket.
func (t *Ticket) Leave() {
	if t == nil || t.place != seated {
		return
	}
	now := t.c.now()
	t.schema.level.finish(t, now)
	t.tally.executes(-1, now)
}

// Matched returns the UIDs of the schema and the level that a request fell under, as header values.
func (t *Ticket) Matched() (flowSchema, priorityLevel []string) {
	if t.schema == nil {
		return nil, nil
	}
	return t.schema.uid, t.schema.levelUID
}

// A list is a doubly linked list of tickets.
type list struct {
	head, tail *Ticket
	length     int
}

func (l *list) push(t *Ticket) {
	t.previous, t.next = l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.next = t
	}
	l.tail = t
	l.length++
}

func (l *list) remove(t *Ticket) {
	if t.previous == nil {
		l.head = t.next
	} else {
		t.previous.next = t.next
	}
	if t.next == nil {
		l.tail = t.previous
	} else {
		t.next.previous = t.previous
	}
	t.previous, t.next = nil, nil
	l.length--
}
