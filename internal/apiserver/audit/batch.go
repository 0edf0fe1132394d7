package audit

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// BatchOptions say how events are gathered.
type BatchOptions struct {
	BufferSize int           // events; those that find it full are lost
	MaxSize    int           // events of a batch
	MaxWait    time.Duration // until a batch is written although it isn't full
	Throttle   bool
	QPS        float32 // batches
	Burst      int

	parallel int // batches that are written at the same time; 0 is one
}

// maxParallel bounds the batches under way to a slow webhook; what comes then stays in the buffer.
const maxParallel = 64

// batching gathers events and passes them on, several at once.
type batching struct {
	next    sink
	o       BatchOptions
	trouble *trouble
	limit   *rate.Limiter
	room    chan struct{} // one for each batch under way

	mu     sync.RWMutex // guards closed: nobody sends on a closed buffer
	closed bool
	buffer chan *auditv1.Event
	group  sync.WaitGroup
}

func newBatching(next sink, o BatchOptions, t *trouble) *batching {
	b := &batching{next: next, o: o, trouble: t, buffer: make(chan *auditv1.Event, o.BufferSize), room: make(chan struct{}, max(1, o.parallel))}
	if o.Throttle {
		b.limit = rate.NewLimiter(rate.Limit(o.QPS), o.Burst)
	}
	b.group.Go(b.run)
	return b
}

func (*batching) name() string { return "buffered" }

var (
	errFull   = errors.New("audit buffer queue blocked")
	errClosed = errors.New("audit backend shut down")
)

// process puts events into the buffer. A request doesn't fail for want of room.
func (b *batching) process(events ...*auditv1.Event) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for i, e := range events {
		if b.closed {
			_ = b.trouble.lost(b.name(), errClosed, events[i:]...)
			return nil
		}
		select {
		case b.buffer <- e:
		default:
			_ = b.trouble.lost(b.name(), errFull, events[i:]...)
			return nil
		}
	}
	return nil
}

// run passes batches on until the buffer is closed and empty.
func (b *batching) run() {
	for {
		batch, more := b.gather()
		if len(batch) > 0 {
			b.pass(batch)
		}
		if !more {
			return
		}
	}
}

// gather returns the next batch, when it is full or its time is over. more is false at the end.
func (b *batching) gather() (batch []*auditv1.Event, more bool) {
	e, ok := <-b.buffer // an idle server wakes nobody
	if !ok {
		return nil, false
	}
	batch = append(batch, e)
	timer := time.NewTimer(b.o.MaxWait)
	defer timer.Stop()
	for len(batch) < b.o.MaxSize {
		select {
		case e, ok := <-b.buffer:
			if !ok {
				return batch, false
			}
			batch = append(batch, e)
		case <-timer.C:
			return batch, true
		}
	}
	return batch, true
}

// pass writes a batch, beside others if there may be several.
func (b *batching) pass(batch []*auditv1.Event) {
	if b.limit != nil {
		_ = b.limit.Wait(context.Background()) // fails only for a burst of zero, which is refused at the start
	}
	b.room <- struct{}{}
	write := func() {
		defer func() { <-b.room }()
		_ = b.next.process(batch...) // the sink has told of it
	}
	if b.o.parallel == 0 {
		write()
		return
	}
	b.group.Go(write)
}

func (b *batching) close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.buffer)
	}
	b.mu.Unlock()
	hurry(b.next)
	b.group.Wait()
	return b.next.close()
}
