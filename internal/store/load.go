package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/sync/errgroup"
)

// loadPage is how many values are asked of etcd at once.
const loadPage = 1000

// load fills a new table.
func (t *Table) load(ctx context.Context) error {
	t.record()
	revision, st, err := t.read(ctx, t.source, 0)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state, t.lastChange, t.loaded = st, revision, true
	t.recent.reset(revision)
	t.published.Store(nil)
	t.remember(t.replay(ctx, revision))
	return nil
}

// reload fills a table anew whose changes have been missed. Only the applier calls it.
func (t *Table) reload(ctx context.Context) error {
	t.mu.Lock()
	loaded, src := t.loaded, t.source
	t.mu.Unlock()
	if !loaded {
		return nil // its own load is under way
	}
	revision, st, err := t.read(ctx, src, 0)
	if err != nil {
		return err
	}
	t.watchers.mu.Lock()
	defer t.watchers.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	former := t.publish()
	t.watchers.closeAll(&GapError{Former: Snapshot{state: former.state, revision: former.lastChange}})
	t.state, t.lastChange = st, revision
	t.store.logBytes.Add(-t.recent.reset(revision))
	t.forgetStates()
	t.published.Store(nil)
	return nil
}

// replace makes every entry anew with another source. Readers and watchers go on with the old entries meanwhile.
func (t *Table) replace(ctx context.Context, src *source) error {
	t.record()
	revision, st, err := t.read(ctx, src, 0)
	if err == nil {
		err = t.store.WaitFor(ctx, revision)
	}
	t.watchers.mu.Lock()
	defer t.watchers.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.recording, t.recorded = false, nil
		return err
	}
	t.state, t.source = st, src
	t.replay(ctx, revision)
	// The log's entries are of the old kind; what is asked of it is made anew from etcd's history.
	t.store.logBytes.Add(-t.recent.reset(t.lastChange))
	t.forgetStates()
	t.published.Store(nil)
	return nil
}

func (t *Table) record() {
	t.mu.Lock()
	t.recording, t.recorded = true, nil
	t.mu.Unlock()
}

// replay puts what was recorded after a revision into the state. The caller holds the table's lock.
func (t *Table) replay(ctx context.Context, after int64) []*change {
	var changes []*change
	for i, o := range t.openWith(ctx, t.source, t.recorded) {
		ev := t.recorded[i]
		if ev.Kv.ModRevision <= after {
			continue
		}
		if c := t.put(ev, o); c != nil {
			changes = append(changes, c)
		}
		t.lastChange = max(t.lastChange, ev.Kv.ModRevision)
	}
	t.recording, t.recorded = false, nil
	return changes
}

// read makes a state of the table's range in etcd at a revision (0: the newest), which it returns. Pages are decoded on
// all processors while the next one is fetched.
func (t *Table) read(ctx context.Context, src *source, revision int64) (int64, *state, error) {
	st := newState(t.cfg.Indexes)
	var mu sync.Mutex
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	decode := func(kvs []*mvccpb.KeyValue) {
		entries := make([]opened, len(kvs))
		for i, kv := range kvs {
			entries[i].entry, entries[i].err = t.open(gctx, src, kv)
		}
		mu.Lock()
		defer mu.Unlock()
		for i, o := range entries {
			if o.err != nil {
				st.hide(o.err)
				t.log().Error("an object cannot be read", "err", o.err, "revision", kvs[i].ModRevision)
				continue
			}
			st.set(o.entry)
		}
	}
	newest := revision == 0
	revision, err := t.pages(gctx, revision, func(kvs []*mvccpb.KeyValue) {
		group.Go(func() error { decode(kvs); return nil })
	})
	if err := errors.Join(err, group.Wait()); err != nil {
		return 0, nil, err
	}
	if newest {
		t.activity.loads.Add(1)
	}
	return revision, st, nil
}

// pages calls fn with the table's values in etcd at a revision, page by page in key order.
func (t *Table) pages(ctx context.Context, revision int64, fn func([]*mvccpb.KeyValue)) (int64, error) {
	r := &etcdserverpb.RangeRequest{
		Key: []byte(t.base), RangeEnd: []byte(rangeEnd(t.base)),
		Revision: revision, Limit: loadPage,
	}
	for {
		resp, err := t.store.backend.read(ctx, r)
		if err != nil {
			return 0, fmt.Errorf("read %s from etcd: %w", t.base, err)
		}
		if r.Revision == 0 {
			r.Revision = resp.Header.Revision
		}
		if len(resp.Kvs) > 0 {
			fn(resp.Kvs)
		}
		if !resp.More {
			return r.Revision, nil
		}
		last := resp.Kvs[len(resp.Kvs)-1].Key
		r.Key = append(slices.Clone(last), 0)
	}
}
