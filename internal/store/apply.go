package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// followRetry is how long the applier waits before it asks an outside etcd again.
const followRetry = time.Second

// followEtcd is the applier: it reads one feed over the whole keyspace, so that every table advances together.
// It ends with the store.
func (s *Store) followEtcd(ctx context.Context, f feed) error {
	for {
		err := s.consume(ctx, f)
		f.close()
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-s.backend.stopped():
			return s.backend.failure()
		default:
		}
		s.cfg.Logger.Warn("the connection to etcd was interrupted", "err", err)
		if errors.Is(err, ErrCompacted) {
			if err := s.reloadAll(ctx); err != nil {
				return err
			}
		}
		if f, err = s.reconnect(ctx); err != nil {
			return err
		}
	}
}

func (s *Store) consume(ctx context.Context, f feed) error {
	for {
		b, err := f.next(ctx)
		if err != nil {
			return err
		}
		s.apply(ctx, b)
	}
}

func (s *Store) reconnect(ctx context.Context) (feed, error) {
	for {
		f, err := s.backend.follow(ctx, "\x00", "\x00", s.applied.Load())
		if err == nil {
			return f, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-s.backend.stopped():
			return nil, s.backend.failure()
		case <-time.After(followRetry):
		}
	}
}

// apply takes a batch of whole revisions into the tables.
func (s *Store) apply(ctx context.Context, b feedBatch) {
	for events := b.events; len(events) > 0; {
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
			n++
		}
		s.applyRevision(ctx, events[:n])
		events = events[n:]
	}
	s.setApplied(b.revision)
}

// applyRevision takes one revision's events into all tables at once.
func (s *Store) applyRevision(ctx context.Context, events []*mvccpb.Event) {
	revision := events[0].Kv.ModRevision
	if revision <= s.applied.Load() {
		return
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	if len(events) == 1 {
		if t := s.tableOf(events[0].Kv.Key); t != nil {
			t.applyEvents(ctx, revision, events)
		}
	} else {
		byTable := map[*Table][]*mvccpb.Event{}
		for _, e := range events {
			if t := s.tableOf(e.Kv.Key); t != nil {
				byTable[t] = append(byTable[t], e)
			}
		}
		for t, es := range byTable {
			t.applyEvents(ctx, revision, es)
		}
	}
	s.setApplied(revision)
	s.trimLogs()
}

// applyEvents takes one revision's events of this table: into the state and the log, then to the watchers.
// Decoding is done before the lock is taken, so that readers do not wait for it.
func (t *Table) applyEvents(ctx context.Context, revision int64, events []*mvccpb.Event) {
	t.watchers.mu.Lock()
	defer t.watchers.mu.Unlock()
	changes, hidden := t.take(ctx, revision, events)
	t.activity.received.Add(int64(len(events)))
	t.activity.dispatched.Add(int64(len(changes)))
	t.watchers.refuse(hidden)
	t.watchers.dispatch(changes)
}

// take changes the state and the log; hidden is what can't be read. A table that is being loaded keeps the events for later.
func (t *Table) take(ctx context.Context, revision int64, events []*mvccpb.Event) (changes []*change, hidden []*UnreadableError) {
	src, opened := t.openAll(ctx, events)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.recording {
		t.recorded = append(t.recorded, events...)
	}
	if !t.loaded || t.closed || revision <= t.lastChange {
		return nil, nil
	}
	if src != t.source {
		opened = t.openWith(ctx, t.source, events)
	}
	changes = make([]*change, 0, len(events))
	for i, ev := range events {
		if c := t.put(ev, opened[i]); c != nil {
			changes = append(changes, c)
		}
		if opened[i].err != nil {
			hidden = append(hidden, opened[i].err)
		}
	}
	t.lastChange = revision
	t.published.Store(nil)
	t.remember(changes)
	if len(hidden) > 0 { // in the log they look like deletions
		t.store.logBytes.Add(-t.recent.reset(revision))
		t.forgetStates()
	}
	return changes, hidden
}

// opened is a value made into an entry, or the reason why it could not be.
type opened struct {
	entry *Entry
	err   *UnreadableError
}

func (t *Table) openAll(ctx context.Context, events []*mvccpb.Event) (*source, []opened) {
	t.mu.Lock()
	src := t.source
	t.mu.Unlock()
	return src, t.openWith(ctx, src, events)
}

func (t *Table) openWith(ctx context.Context, src *source, events []*mvccpb.Event) []opened {
	out := make([]opened, len(events))
	for i, ev := range events {
		if ev.Type != mvccpb.Event_DELETE {
			out[i].entry, out[i].err = t.open(ctx, src, ev.Kv)
		}
	}
	return out
}

// put puts an event into the state. It returns nil when nothing visible changed.
func (t *Table) put(ev *mvccpb.Event, o opened) *change {
	key := string(ev.Kv.Key[len(t.base):])
	if t.state.unreadable[key] != nil {
		delete(t.state.unreadable, key)
		t.blind = ev.Kv.ModRevision
	}
	c := &change{revision: ev.Kv.ModRevision, table: t, now: o.entry}
	if o.err != nil {
		c.former = t.state.get(key)
		if t.hide(o.err); c.former == nil {
			return nil
		}
		return c
	}
	if c.now == nil {
		if c.former = t.state.remove(key); c.former == nil {
			return nil
		}
		c.former.supersede()
		return c
	}
	if former := t.state.get(key); former != nil {
		c.now.inherit(former)
		former.supersede()
	}
	c.former = t.state.set(c.now)
	return c
}

// remember appends changes to the log and keeps it within its own bound.
func (t *Table) remember(changes []*change) {
	for _, c := range changes {
		t.recent.append(c)
		t.store.logBytes.Add(c.size())
	}
	if over := t.recent.len() - t.store.cfg.LogEvents; over > 0 {
		t.store.logBytes.Add(-t.recent.drop(over + t.store.cfg.LogEvents/16))
		t.forgetStates()
	}
}

// trimLogs keeps the logs within their common bound: the table with the largest log pays.
func (s *Store) trimLogs() {
	for s.logBytes.Load() > s.cfg.LogBytes {
		var largest *Table
		var size int64
		for _, t := range *s.tables.Load() {
			t.mu.Lock()
			if t.recent.size > size {
				largest, size = t, t.recent.size
			}
			t.mu.Unlock()
		}
		if largest == nil {
			return
		}
		largest.mu.Lock()
		s.logBytes.Add(-largest.recent.drop(1 + largest.recent.len()/16))
		largest.forgetStates()
		largest.mu.Unlock()
	}
}

// quietEvents are what a table's log keeps however old: they let a watch of a table where little happens resume.
const quietEvents = 256

// trimBefore lets go of changes that are as old as what etcd's history loses, but for each table's last ones.
func (s *Store) trimBefore(revision int64) {
	for _, t := range *s.tables.Load() {
		t.mu.Lock()
		old := t.recent.len() - len(t.recent.after(revision))
		if n := min(old, t.recent.len()-quietEvents); n > 0 {
			s.logBytes.Add(-t.recent.drop(n))
			t.forgetStates()
		}
		t.mu.Unlock()
	}
}

// setApplied tells that every table has reached a revision.
func (s *Store) setApplied(revision int64) {
	if revision <= s.applied.Load() {
		return
	}
	s.applied.Store(revision)
	s.waiters.reached(revision)
}

// reloadAll reads every table anew after the feed has missed changes for good. Watchers have missed them too.
func (s *Store) reloadAll(ctx context.Context) error {
	s.cfg.Logger.Warn("etcd has compacted changes that were not yet read; all tables are read anew")
	lowest, err := s.backend.revision(ctx)
	if err != nil {
		return fmt.Errorf("ask etcd for its revision: %w", err)
	}
	for _, t := range *s.tables.Load() {
		if err := t.reload(ctx); err != nil {
			return fmt.Errorf("read %s anew: %w", t.cfg.Prefix, err)
		}
	}
	// The tables are at this revision or later; what they have already is skipped when the feed brings it.
	s.setApplied(lowest)
	return nil
}
