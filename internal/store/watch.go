package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"
)

// WatchOptions say from where and what to watch. One of After, FromNow and Initial is set; After 0 with neither means
// FromNow. Name, Namespace, Index and Match narrow the watch together; Index, Name or Namespace, the first of them that is
// set, decides where the watcher is filed.
type WatchOptions struct {
	After   int64 // events after this revision; ErrCompacted if they are gone, ErrFuture if etcd has not come that far
	FromNow bool  // events from the newest revision on
	Initial bool  // the snapshot first, then the events after it, with nothing between lost

	Namespace    string
	Name         string
	Index, Value string             // one of the table's indexes, or OwnerIndex
	Match        func(*Record) bool // nil: all; must be fast and pure

	// Whole lets nothing be missed: a watch that may concern an object that can't be read ends with its UnreadableError, or doesn't begin.
	// Others see such objects as deleted.
	Whole bool

	Buffer        int           // events that may wait before the watcher is cut off with ErrSlow; default 8192
	ProgressEvery time.Duration // Next returns an empty batch at least this often; 0: only with events

	// Notify, if set, is called in place of waking who waits, whenever there are events. It must not block, and sees to it that somebody
	// calls Take, or Wake.
	Notify func(*Watch)
}

const defaultBuffer = 8192

// Watch delivers a table's changes in revision order. One goroutine at a time calls Next, or Wait and Take.
type Watch struct {
	table    *Table
	options  WatchOptions
	limit    int
	start    Snapshot
	deadline *time.Timer // for ProgressEvery

	wake chan struct{} // holds a token when there is something new

	mu    sync.Mutex
	queue []Event
	err   error // why there will be no more
}

// Watch begins a watch.
func (t *Table) Watch(ctx context.Context, o WatchOptions) (*Watch, error) {
	if o.Index != "" && !t.hasIndex(o.Index) {
		return nil, fmt.Errorf("watch %s: no index %q", t.cfg.Prefix, o.Index)
	}
	w := &Watch{table: t, options: o, limit: o.Buffer, wake: make(chan struct{}, 1)}
	if w.limit <= 0 {
		w.limit = defaultBuffer
	}
	if o.After == 0 || o.FromNow || o.Initial {
		if err := t.register(w, 0); err != nil {
			return nil, fmt.Errorf("watch %s: %w", t.cfg.Prefix, err)
		}
		return w, nil
	}
	if err := t.store.catchUp(ctx, o.After); err != nil {
		return nil, fmt.Errorf("watch %s after revision %d: %w", t.cfg.Prefix, o.After, err)
	}
	err := t.register(w, o.After)
	// What was filled in may be trimmed again before it is used; a log that small is not worth a third attempt.
	for attempt := 0; errors.Is(err, errBeforeLog) && attempt < 2; attempt++ {
		if err = t.refill(ctx, o.After); err == nil {
			err = t.register(w, o.After)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("watch %s after revision %d: %w", t.cfg.Prefix, o.After, err)
	}
	return w, nil
}

func (t *Table) hasIndex(name string) bool {
	return name == OwnerIndex || slices.Contains(t.cfg.Indexes, name)
}

// errBeforeLog tells that a watch begins before the log does.
var errBeforeLog = fmt.Errorf("the log begins later: %w", ErrCompacted)

// register files a watcher, with the changes after a revision (0: none) waiting for it. Nothing is missed between,
// because dispatching waits meanwhile.
func (t *Table) register(w *Watch, after int64) error {
	t.watchers.mu.Lock()
	defer t.watchers.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	if w.options.Whole {
		for _, e := range t.state.unreadable {
			if e.within(&w.options) {
				return e
			}
		}
	}
	if after > 0 {
		if after < t.recent.start {
			return errBeforeLog
		}
		t.recent.afterOf(w.options.Name, after, func(c *change) {
			if ev, ok := w.see(c); ok {
				w.queue = append(w.queue, ev)
			}
		})
		w.limit += len(w.queue)
	}
	// The applier may have changed the table without having dispatched yet only while it holds watchers.mu; so what is in
	// the state now will not be dispatched again.
	w.start.revision = max(t.store.applied.Load(), t.lastChange)
	if w.options.Initial {
		w.start.state = t.publish().state
	}
	if len(w.queue) > 0 {
		w.wake <- struct{}{}
	}
	t.watchers.add(w)
	return nil
}

// Initial is the state that a watch with Initial begins with, narrowed like the watch, and its revision. It is given
// once; the sequence is nil the second time and for a watch without Initial.
func (w *Watch) Initial() (iter.Seq[*Entry], int64) {
	start, o := w.start, &w.options
	w.start.state = nil
	if start.state == nil {
		return nil, start.revision
	}
	seq := func(yield func(*Entry) bool) {
		selected := func(e *Entry) bool { return !o.selects(e) || yield(e) }
		switch {
		case o.Index != "":
			for e := range start.ByIndex(o.Index, o.Value) {
				if !selected(e) {
					return
				}
			}
		case o.Namespace != "" && o.Name != "":
			if e, ok := start.Get(o.Namespace + "/" + o.Name); ok {
				selected(e)
			}
		case o.Namespace != "":
			start.Ascend(o.Namespace+"/", "", selected)
		default:
			// Without a namespace, a name is the whole key if the kind has none.
			if e, ok := start.Get(o.Name); ok {
				selected(e)
				return
			}
			start.Ascend("", "", selected)
		}
	}
	return seq, start.revision
}

// selects tells whether an entry is within the watch.
func (o *WatchOptions) selects(e *Entry) bool {
	if e == nil {
		return false
	}
	r := &e.record
	if o.Namespace != "" && r.Namespace != o.Namespace || o.Name != "" && r.Name != o.Name {
		return false
	}
	if o.Index != "" && !e.hasValue(o.Index, o.Value) {
		return false
	}
	return o.Match == nil || o.Match(r)
}

func (e *Entry) hasValue(index, value string) bool {
	if index == OwnerIndex {
		return e.ownedBy(value)
	}
	return e.record.Fields[index] == value
}

// see makes a change into the event that the watcher sees, if it sees any.
func (w *Watch) see(c *change) (Event, bool) {
	was, is := w.options.selects(c.former), w.options.selects(c.now)
	switch {
	case was && is:
		return Event{Type: Modified, change: c}, true
	case is:
		return Event{Type: Added, change: c}, true
	case was:
		return Event{Type: Deleted, change: c}, true
	}
	return Event{}, false
}

// Next blocks until there is at least one event, or progress to report (see ProgressEvery). The batch is the caller's.
// Nothing at or below upTo is still to come. ErrSlow when the watcher fell behind, ErrClosed when the table or the
// store is gone or the watch was stopped, ErrCompacted when the store itself has missed changes.
func (w *Watch) Next(ctx context.Context) (batch []Event, upTo int64, err error) {
	for {
		if batch, upTo, err = w.Take(nil); err != nil || len(batch) > 0 {
			return batch, upTo, err
		}
		due, err := w.Wait(ctx)
		if err != nil {
			return nil, 0, err
		}
		if due {
			return w.Take(nil)
		}
	}
}

// Wait blocks until Take may have something to return, or progress is due.
func (w *Watch) Wait(ctx context.Context) (due bool, err error) {
	if w.options.ProgressEvery > 0 && w.deadline == nil {
		w.deadline = time.NewTimer(w.options.ProgressEvery)
	}
	select {
	case <-w.wake:
		return false, nil
	case <-w.progressDue():
		w.deadline.Reset(w.options.ProgressEvery)
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

func (w *Watch) progressDue() <-chan time.Time {
	if w.deadline == nil {
		return nil
	}
	return w.deadline.C
}

// Take is Next without waiting: the batch may be empty. An earlier batch that is not used any more may be given back as room for events
// to come.
func (w *Watch) Take(room []Event) ([]Event, int64, error) {
	// What has been applied before has been dispatched before; and a revision's events reach the queue together.
	upTo := w.table.store.applied.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := w.queue
	w.queue = room[:0]
	if len(batch) == 0 {
		return nil, upTo, w.err
	}
	return batch, max(upTo, batch[len(batch)-1].Revision()), nil
}

// Progress is the revision at or below which nothing is still to come once Next would block.
func (w *Watch) Progress() int64 {
	upTo := w.table.store.applied.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) > 0 {
		return min(upTo, w.queue[0].Revision()-1)
	}
	return upTo
}

// Stop ends the watch and lets go of what it held. It may be called more than once, and from any goroutine.
func (w *Watch) Stop() {
	w.table.watchers.mu.Lock()
	w.table.watchers.remove(w)
	w.table.watchers.mu.Unlock()
	w.end(ErrClosed, true)
}

// push adds one revision's events. It tells whether the watcher is still with us.
func (w *Watch) push(events ...Event) bool {
	w.mu.Lock()
	full := len(w.queue)+len(events) > w.limit
	if !full {
		w.queue = append(w.queue, events...)
	}
	w.mu.Unlock()
	if full {
		w.end(fmt.Errorf("%d events wait: %w", w.limit, ErrSlow), true)
		return false
	}
	if w.options.Notify != nil {
		w.options.Notify(w)
	} else {
		w.Wake()
	}
	return true
}

// end lets Next return an error, after the events that wait unless they are dropped.
func (w *Watch) end(err error, drop bool) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	if drop {
		w.queue = nil
	}
	w.mu.Unlock()
	w.Wake()
}

// Wake ends a Wait, the present one or the next.
func (w *Watch) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
