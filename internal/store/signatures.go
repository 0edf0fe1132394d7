package store

import (
	"context"
	"io"
	"iter"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// Store is the cluster's database and the cache in front of it.
type Store struct{}

// Open starts the embedded etcd, or connects to an outside one, and begins to follow it.
func Open(ctx context.Context, cfg Config) (*Store, error) { panic("unwritten") }

// Close stops the cache and the embedded etcd and waits for both.
func (s *Store) Close() error { panic("unwritten") }

// Done is closed when the store has stopped, by Close or by itself.
func (s *Store) Done() <-chan struct{} { panic("unwritten") }

// Err tells why the store stopped by itself; nil while it runs and after Close.
func (s *Store) Err() error { panic("unwritten") }

// AddTable loads the range below a prefix and keeps it current from then on. It may be called at any time and
// from several goroutines at once; a second call with the same prefix is an error.
func (s *Store) AddTable(ctx context.Context, cfg TableConfig) (*Table, error) { panic("unwritten") }

// RemoveTable forgets a table. Its watchers end with ErrClosed. What lies in etcd stays.
func (s *Store) RemoveTable(prefix string) { panic("unwritten") }

// ReplaceKind makes every cached object of a table anew with another Kind, after a schema has changed.
func (s *Store) ReplaceKind(ctx context.Context, prefix string, k Kind) error { panic("unwritten") }

// Sync returns once every table has reached the revision that etcd had when the call came: what a linearizable read needs.
func (s *Store) Sync(ctx context.Context) (revision int64, err error) { panic("unwritten") }

// WaitFor returns once every table has reached a revision.
func (s *Store) WaitFor(ctx context.Context, revision int64) error { panic("unwritten") }

// Revision is what every table has reached.
func (s *Store) Revision() int64 { panic("unwritten") }

// Snapshots returns snapshots of several tables, all at one revision.
func (s *Store) Snapshots(tables ...*Table) []Snapshot { panic("unwritten") }

// Compact discards history before a revision.
func (s *Store) Compact(ctx context.Context, revision int64) error { panic("unwritten") }

// Defragment returns the free pages of this member's database file to the file system. Writes wait meanwhile.
func (s *Store) Defragment(ctx context.Context) error { panic("unwritten") }

// Snapshot writes the whole database as an etcd snapshot file.
func (s *Store) Snapshot(ctx context.Context, w io.Writer) (int64, error) { panic("unwritten") }

// Status describes the database.
func (s *Store) Status(ctx context.Context) (Status, error) { panic("unwritten") }

// Status describes the database.
type Status struct {
	Revision   int64 // etcd's
	Cached     int64 // the cache's
	Compacted  int64 // history up to here is gone
	SizeBytes  int64
	InUseBytes int64
	QuotaBytes int64
	NoSpace    bool // writes are refused
	MemberID   uint64
	LeaderID   uint64
	Members    []Member
}

// Member is one etcd member.
type Member struct {
	ID      uint64
	Name    string
	PeerURL string
	Learner bool
}

// Get reads a key as it lies in etcd, linearizably; key is a full one ("/registry/…" or any other).
func (s *Store) Get(ctx context.Context, key string) (value []byte, revision int64, err error) {
	panic("unwritten")
}

// Put writes a full key if its revision is ifRevision (0: it must not exist; -1: whatever it is).
func (s *Store) Put(ctx context.Context, key string, value []byte, ifRevision int64) (revision int64, err error) {
	panic("unwritten")
}

// Remove deletes a full key if its revision is ifRevision (0: whatever it is).
func (s *Store) Remove(ctx context.Context, key string, ifRevision int64) (revision int64, err error) {
	panic("unwritten")
}

// AcquireLease waits until this process holds a key and keeps it held. A key that an earlier process with the
// same value left behind is taken over at once.
func (s *Store) AcquireLease(ctx context.Context, key, value string, ttl time.Duration) (*Lease, error) {
	panic("unwritten")
}

// Lease is a key held with a time to live: leadership.
type Lease struct{}

// Fence is the condition for writes of the holder: use it with WithFence.
func (l *Lease) Fence() Fence { panic("unwritten") }

// Lost is closed when the key is no longer surely held.
func (l *Lease) Lost() <-chan struct{} { panic("unwritten") }

// Release gives the key up at once.
func (l *Lease) Release(ctx context.Context) error { panic("unwritten") }

// Table is one resource's objects.
type Table struct{}

// Prefix is what the table was added with.
func (t *Table) Prefix() string { panic("unwritten") }

// Create writes an object that must not exist yet. Keys are "namespace/name" or "name"; value is what etcd shall hold
// before encryption. ErrExists if there is one.
func (t *Table) Create(ctx context.Context, key string, value []byte, o WriteOptions) (revision int64, err error) {
	panic("unwritten")
}

// Update replaces an object whose revision is ifRevision (0: whatever it is). ErrConflict or ErrNotFound otherwise.
func (t *Table) Update(ctx context.Context, key string, value []byte, ifRevision int64, o WriteOptions) (revision int64, err error) {
	panic("unwritten")
}

// Delete removes an object whose revision is ifRevision (0: whatever it is). ErrConflict or ErrNotFound otherwise.
func (t *Table) Delete(ctx context.Context, key string, ifRevision int64) (revision int64, err error) {
	panic("unwritten")
}

// Snapshot returns the newest state. It costs nothing.
func (t *Table) Snapshot() Snapshot { panic("unwritten") }

// SnapshotAt returns the state at exactly a revision, from memory where possible, else from etcd's history.
// ErrCompacted when that is gone, ErrFuture when etcd has not come that far.
func (t *Table) SnapshotAt(ctx context.Context, revision int64) (Snapshot, error) { panic("unwritten") }

// Watch begins a watch.
func (t *Table) Watch(ctx context.Context, o WatchOptions) (*Watch, error) { panic("unwritten") }

// Snapshot is a table's state at a revision. It never changes and needs no closing.
type Snapshot struct{}

// Revision is the state's revision.
func (s Snapshot) Revision() int64 { panic("unwritten") }

// Get returns the entry of a key.
func (s Snapshot) Get(key string) (*Entry, bool) { panic("unwritten") }

// Ascend calls fn for the entries whose key begins with prefix and lies after `after` ("": from the start), in key order, until fn returns false.
func (s Snapshot) Ascend(prefix, after string, fn func(*Entry) bool) { panic("unwritten") }

// Count is how many entries' keys begin with prefix.
func (s Snapshot) Count(prefix string) int { panic("unwritten") }

// ByIndex returns the entries whose index has a value, in key order.
func (s Snapshot) ByIndex(index, value string) iter.Seq[*Entry] { panic("unwritten") }

// Entry is one version of an object. Read-only and shared.
type Entry struct{}

// Key is "namespace/name" or "name".
func (e *Entry) Key() string { panic("unwritten") }

// Revision is the object's resourceVersion.
func (e *Entry) Revision() int64 { panic("unwritten") }

// Raw is the object's canonical bytes: shared, read-only.
func (e *Entry) Raw() []byte { panic("unwritten") }

// Record is the object's index record: shared, read-only.
func (e *Entry) Record() *Record { panic("unwritten") }

// Object is the decoded object: shared, read-only; DeepCopy before a change.
func (e *Entry) Object() (runtime.Object, error) { panic("unwritten") }

// WatchOptions say from where and what to watch. One of After, FromNow and Initial is set; After 0 with neither means FromNow.
// Name, Namespace, Index and Match narrow the watch together; the narrowest of the first three decides where the watcher is filed.
type WatchOptions struct {
	After   int64 // events after this revision; ErrCompacted if they are gone, ErrFuture if etcd has not come that far
	FromNow bool  // events from the newest revision on
	Initial bool  // the snapshot first, then the events after it, with nothing between lost

	Namespace    string
	Name         string
	Index, Value string             // one of the table's indexes, or OwnerIndex
	Match        func(*Record) bool // nil: all; must be fast and pure

	Buffer        int           // events that may wait before the watcher is cut off with ErrSlow; default 8192
	ProgressEvery time.Duration // Next returns an empty batch at least this often; 0: only with events
}

// Watch delivers a table's changes in revision order.
type Watch struct{}

// Next blocks until there is at least one event, or progress to report. Nothing at or below upTo is still to come.
// ErrSlow when the watcher fell behind, ErrClosed when the table or the store is gone or the watch was stopped.
func (w *Watch) Next(ctx context.Context) (batch []Event, upTo int64, err error) { panic("unwritten") }

// Initial is the state that a watch with Initial begins with, narrowed like the watch, and its revision.
func (w *Watch) Initial() (iter.Seq[*Entry], int64) { panic("unwritten") }

// Progress is the revision at or below which nothing is still to come, beyond what Next would return at once.
func (w *Watch) Progress() int64 { panic("unwritten") }

// Stop ends the watch and lets go of what it held. It may be called more than once.
func (w *Watch) Stop() { panic("unwritten") }

// EventType says what happened, relative to the watcher's selector.
type EventType uint8

// The types of event.
const (
	Added EventType = iota + 1
	Modified
	Deleted
)

// String is the type as the API spells it.
func (t EventType) String() string { panic("unwritten") }

// Event is a change as one watcher sees it: an object that leaves the watcher's selection is Deleted, one that enters it Added.
type Event struct {
	Type EventType
}

// Revision is the change's revision.
func (e Event) Revision() int64 { panic("unwritten") }

// Entry is the object: for Deleted the former object with the change's revision as its resourceVersion.
func (e Event) Entry() *Entry { panic("unwritten") }

// Former is the object before the change, at its own revision; nil if there was none.
func (e Event) Former() *Entry { panic("unwritten") }

// Frame returns the event encoded in a format of the caller's numbering. encode is called at most once for each change,
// type and format while its frame is kept; all watchers share the result.
func (e Event) Frame(format int, encode func() ([]byte, error)) ([]byte, error) { panic("unwritten") }
