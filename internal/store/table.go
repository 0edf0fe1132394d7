package store

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// root is where Kubernetes keeps its objects.
const root = "/registry/"

// Table is one resource's objects: the newest state, the log of what led to it, and those who watch.
//
// One goroutine, the store's applier, changes a table; only loading and ReplaceKind do so besides. Everybody else reads:
// the first snapshot after a change takes the lock for as long as copying a few pointers takes, the others none.
type Table struct {
	store   *Store
	cfg     TableConfig
	base    string // "/registry/<prefix>/"
	shared  *sharedRecords
	refills chan struct{} // holds a token: one reads etcd's history at a time

	// watchers has its own lock, taken before mu: whoever registers sees a state and every change after it.
	watchers watchers

	mu         sync.Mutex
	source     *source
	state      *state
	published  atomic.Pointer[published] // a copy of state, until it changes
	lastChange int64                     // revision of the last change, or of the load
	loaded     bool
	recording  bool            // while the table is read from etcd, what happens meanwhile is recorded
	recorded   []*mvccpb.Event // ditto
	recent     changeLog
	states     []Snapshot  // former states that were made from the log
	former     formerState // the last one that was read from etcd
	blind      int64       // before this revision, objects that could not be read are unknown to the log
	closed     bool

	activity activity
}

// published is a copy of the state with the revision of the last change in it.
type published struct {
	state      *state
	lastChange int64
}

func newTable(s *Store, cfg TableConfig) *Table {
	t := &Table{
		store: s, cfg: cfg, base: root + cfg.Prefix + "/",
		shared:  newSharedRecords(),
		refills: make(chan struct{}, 1),
		source:  &source{kind: cfg.Kind, warm: &s.warm},
		state:   newState(cfg.Indexes),
	}
	t.watchers.init()
	return t
}

// Prefix is what the table was added with.
func (t *Table) Prefix() string { return t.cfg.Prefix }

// path is the full etcd key of an object.
func (t *Table) path(key string) string { return t.base + key }

func (t *Table) log() *slog.Logger { return t.store.cfg.Logger }

// Snapshot returns the newest state. It costs nothing.
func (t *Table) Snapshot() Snapshot {
	// What was applied before the state is read is in it.
	applied := t.store.applied.Load()
	p := t.published.Load()
	if p == nil {
		t.mu.Lock()
		p = t.publish()
		t.mu.Unlock()
	}
	return Snapshot{state: p.state, revision: max(applied, p.lastChange)}
}

// Get returns the newest object under a key, nil if there is none, and why it can't be read if it exists in spite of that. Unlike a snapshot it
// costs the next change no copy of what that changes.
func (t *Table) Get(key string) (*Entry, *UnreadableError) {
	if p := t.published.Load(); p != nil {
		return p.state.get(key), p.state.unreadable[key]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.get(key), t.state.unreadable[key]
}

// Activity is what has happened to a table since it was opened.
type Activity struct {
	Received   int64 // events from etcd
	Dispatched int64 // changes that watchers could see
	Loads      int64 // how often it was read from etcd
	Unreadable int64 // values that could not be decrypted or decoded
	Revision   int64 // of the newest state
	Capacity   int64 // changes that the log keeps at most
}

type activity struct{ received, dispatched, loads, unreadable atomic.Int64 }

// Activity tells what has happened to the table.
func (t *Table) Activity() Activity {
	a := &t.activity
	return Activity{
		Received: a.received.Load(), Dispatched: a.dispatched.Load(), Loads: a.loads.Load(), Unreadable: a.unreadable.Load(),
		Revision: t.Snapshot().Revision(), Capacity: int64(t.store.cfg.LogEvents),
	}
}

// publish returns a copy of the state, the same one until the state changes. The caller holds the table's lock.
func (t *Table) publish() *published {
	if p := t.published.Load(); p != nil {
		return p
	}
	p := &published{state: t.state.copy(), lastChange: t.lastChange}
	t.published.Store(p)
	return p
}

func (t *Table) unreadable(kv *mvccpb.KeyValue, sealed bool, err error) *UnreadableError {
	t.activity.unreadable.Add(1)
	return &UnreadableError{Key: string(kv.Key[len(t.base):]), Path: string(kv.Key), Revision: kv.ModRevision, Sealed: sealed, Err: err}
}

// open makes an entry of a value as it lies in etcd.
func (t *Table) open(ctx context.Context, src *source, kv *mvccpb.KeyValue) (*Entry, *UnreadableError) {
	value := kv.Value
	if t.cfg.Transformer != nil {
		var err error
		if value, _, err = t.cfg.Transformer.FromStorage(ctx, string(kv.Key), value); err != nil {
			return nil, t.unreadable(kv, true, err)
		}
	}
	raw, rec, err := src.kind.Open(value, kv.ModRevision)
	if err != nil {
		return nil, t.unreadable(kv, false, err)
	}
	key := string(kv.Key[len(t.base):])
	e := &Entry{key: key, revision: kv.ModRevision, record: rec, source: src}
	e.content.set(raw)
	t.shared.share(e)
	return e, nil
}
