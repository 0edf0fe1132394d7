package store

import (
	"context"
	"fmt"
	"maps"
	"time"
	"weak"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

const (
	// keptStates is how many former states a table keeps for lists that go on page by page.
	keptStates = 4
	// progressRetry is how often etcd is asked whether it has sent all there is.
	progressRetry = 5 * time.Millisecond
)

// SnapshotAt returns the state at exactly a revision, from memory where possible, else from etcd's history.
// ErrCompacted when that is gone, ErrFuture when etcd has not come that far.
func (t *Table) SnapshotAt(ctx context.Context, revision int64) (Snapshot, error) {
	if revision <= 0 {
		return Snapshot{}, fmt.Errorf("%s at revision %d: there was none: %w", t.cfg.Prefix, revision, ErrCompacted)
	}
	if err := t.store.catchUp(ctx, revision); err != nil {
		return Snapshot{}, fmt.Errorf("%s at revision %d: %w", t.cfg.Prefix, revision, err)
	}
	if first := t.store.compacted.Load(); revision < first {
		return Snapshot{}, fmt.Errorf("%s at revision %d: history begins at %d: %w", t.cfg.Prefix, revision, first, ErrCompacted)
	}
	if s, ok := t.recall(revision); ok {
		return s, nil
	}
	st, err := t.formerState(ctx, revision)
	if err != nil {
		return Snapshot{}, fmt.Errorf("%s at revision %d: %w", t.cfg.Prefix, revision, err)
	}
	return Snapshot{state: st, revision: revision}, nil
}

// formerState reads the state at a revision from etcd's history. The last one that was read is found again while
// somebody uses it, as a list does that goes on page by page.
func (t *Table) formerState(ctx context.Context, revision int64) (*state, error) {
	select {
	case t.refills <- struct{}{}:
		defer func() { <-t.refills }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	t.mu.Lock()
	src, known := t.source, t.former
	t.mu.Unlock()
	if st := known.state.Value(); st != nil && known.revision == revision && known.source == src {
		return st, nil
	}
	_, st, err := t.read(ctx, src, revision)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.former = formerState{revision: revision, source: src, state: weak.Make(st)}
	t.mu.Unlock()
	return st, nil
}

// formerState is a state that was read from etcd's history, as long as it is in memory.
type formerState struct {
	revision int64
	source   *source
	state    weak.Pointer[state]
}

// recall makes the state at a revision from the newest one and the log: it undoes what happened since.
func (t *Table) recall(revision int64) (Snapshot, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.publish()
	if revision >= now.lastChange {
		return Snapshot{state: now.state, revision: revision}, true
	}
	if revision < t.recent.start || revision < t.blind {
		return Snapshot{}, false
	}
	for _, s := range t.states {
		if s.revision == revision {
			return s, true
		}
	}
	st := now.state.copy()
	undo := t.recent.after(revision)
	for i := len(undo) - 1; i >= 0; i-- {
		if c := undo[i]; c.former != nil {
			st.set(c.former)
		} else {
			st.remove(c.key())
		}
	}
	maps.DeleteFunc(st.unreadable, func(_ string, e *UnreadableError) bool { return e.Revision > revision })
	s := Snapshot{state: st, revision: revision}
	if len(t.states) == keptStates {
		t.states = append(t.states[:0:0], t.states[1:]...)
	}
	t.states = append(t.states, s)
	return s, true
}

// forgetStates lets go of the former states that the log no longer covers: as long as it does, keeping a state costs no
// more than its tree's nodes. The caller holds the table's lock.
func (t *Table) forgetStates() {
	kept := t.states[:0:0]
	for _, s := range t.states {
		if s.revision >= t.recent.start {
			kept = append(kept, s)
		}
	}
	t.states = kept
}

// refill extends the log back to a revision from etcd's history, which is needed after a restart.
// ErrCompacted when etcd no longer has it, or when it is more than the log may hold.
func (t *Table) refill(ctx context.Context, back int64) error {
	select {
	case t.refills <- struct{}{}:
		defer func() { <-t.refills }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	t.mu.Lock()
	start, room, src := t.recent.start, t.store.cfg.LogEvents-t.recent.len(), t.source
	t.mu.Unlock()
	if back >= start {
		return nil
	}
	older, err := t.history(ctx, src, back, start, room)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.recent.start == start && t.source == src {
		t.store.logBytes.Add(t.recent.prepend(back, older))
	}
	return nil
}

// history makes the changes of (after, upTo] from etcd's history.
func (t *Table) history(ctx context.Context, src *source, after, upTo int64, room int) ([]*change, error) {
	events, err := t.historyEvents(ctx, after, upTo, room)
	if err != nil {
		return nil, fmt.Errorf("read the history of %s after revision %d: %w", t.cfg.Prefix, after, err)
	}
	latest := map[string]*Entry{}
	var changes []*change
	for _, ev := range events {
		key := string(ev.Kv.Key[len(t.base):])
		former, known := latest[key]
		if !known {
			if former, err = t.entryAt(ctx, src, key, after); err != nil {
				return nil, err
			}
		}
		c := &change{revision: ev.Kv.ModRevision, table: t, former: former}
		if ev.Type != mvccpb.Event_DELETE {
			var hidden *UnreadableError
			if c.now, hidden = t.open(ctx, src, ev.Kv); hidden != nil {
				return nil, fmt.Errorf("revision %d: %w: %w", ev.Kv.ModRevision, hidden, ErrCompacted)
			}
		}
		latest[key] = c.now
		if c.former != nil || c.now != nil {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// historyEvents reads the table's events of (after, upTo].
func (t *Table) historyEvents(ctx context.Context, after, upTo int64, room int) ([]*mvccpb.Event, error) {
	f, err := t.store.backend.follow(ctx, t.base, rangeEnd(t.base), after)
	if err != nil {
		return nil, err
	}
	defer f.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		askProgress(ctx, f)
	}()
	defer func() { cancel(); <-asking }()

	var events []*mvccpb.Event
	for {
		b, err := f.next(ctx)
		if err != nil {
			return nil, err
		}
		for _, ev := range b.events {
			if ev.Kv.ModRevision > upTo {
				return events, nil
			}
			if events = append(events, ev); len(events) > room {
				return nil, fmt.Errorf("more than %d changes: %w", room, ErrCompacted)
			}
		}
		if b.revision >= upTo {
			return events, nil
		}
	}
}

// askProgress asks until somebody has heard the answer: etcd gives none while it is still catching up.
func askProgress(ctx context.Context, f feed) {
	again := time.NewTicker(progressRetry)
	defer again.Stop()
	for {
		if err := f.progress(ctx); err != nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// entryAt is an object as it was at a revision; nil if there was none, or none that can be read.
func (t *Table) entryAt(ctx context.Context, src *source, key string, revision int64) (*Entry, error) {
	if s, ok := t.recall(revision); ok {
		return s.state.get(key), nil
	}
	resp, err := t.store.backend.read(ctx, &etcdserverpb.RangeRequest{Key: []byte(t.path(key)), Revision: revision, Serializable: true})
	if err != nil {
		return nil, fmt.Errorf("read %s at revision %d: %w", t.path(key), revision, err)
	}
	if len(resp.Kvs) == 0 {
		return nil, nil
	}
	e, hidden := t.open(ctx, src, resp.Kvs[0])
	if hidden != nil {
		t.log().Error("an object's history cannot be read", "err", hidden, "revision", resp.Kvs[0].ModRevision)
		return nil, nil
	}
	return e, nil
}
