// Package store is the cluster's database, etcd, and the cache in front of it.
//
// A Store runs an etcd member inside the process (or speaks to an outside cluster) and holds the newest state of every
// table in memory. Bytes flow in as Kubernetes writes them, under Kubernetes' keys; what flows out are entries: the bytes
// that a client receives beside a small index record. The package looks into no object. A Kind, which the caller gives
// for each table, does: it makes canonical bytes and a record of a value, and a Go object of canonical bytes.
//
//	s, err := store.Open(ctx, store.Config{Dir: dir})
//	pods, err := s.AddTable(ctx, store.TableConfig{Prefix: "pods", Kind: podKind, Indexes: []string{"spec.nodeName"}})
//	revision, err := pods.Create(ctx, "default/web", value, store.WriteOptions{})
//	_, err = s.Sync(ctx)                        // or s.WaitFor(ctx, revision)
//	entry, _ := pods.Get("default/web")
//
// # The life of a write
//
// Create, Update and Delete are one etcd transaction each, conditional on the key's revision and, under WithFence, on
// the writer's leadership. They return once etcd has committed; the cache is not written to. It hears of the change the
// way it hears of everybody's: one watch over the whole keyspace, read by one goroutine, the applier. For each revision
// in turn it decodes the new values, puts them into their tables' trees, appends the changes (the entries before and
// after) to the tables' logs, hands them to the watchers whom they concern, and then declares the revision reached.
// Because all tables hang on one watch, "the cache has reached revision r" is a single number, and a quiet table is
// never behind a busy one. Sync asks etcd for its revision and waits for that number: a read after it is linearizable.
//
// # The life of a watch
//
// Watch registers under the dispatcher's lock, so that the state it begins with and the changes that follow leave no gap.
// It is filed under its index value, name or namespace, if it has one, and a change is offered only to the watchers filed
// where the object was or is. Each watcher has a bounded queue; pushing never waits. Who falls behind is cut off alone, with
// ErrSlow, and resumes by After. The changes themselves are shared: an event's frame is encoded once for all watchers.
//
// A watch that resumes is served from the table's log. What the log does not hold any more, or not yet after a restart, is
// read from etcd's history and put before the log; ErrCompacted comes only when etcd has compacted it, or when it is more
// than the log may hold.
//
// # Snapshots
//
// A table's state is a copy-on-write B-tree. Snapshot copies its root, at most once for each change. SnapshotAt makes an
// older state by undoing the log, or reads it from etcd; ErrCompacted comes for what was compacted, whatever the log holds.
//
// # What keeps it running
//
// The store compacts etcd (in turns with other servers, by kube-apiserver's own key), defragments when it is
// worthwhile, keeps disk space in reserve and refuses writes with ErrNoSpace before the disk or the quota is exhausted,
// and accepts them again by itself. etcd ends its process when it cannot write its log; here that ends the store alone:
// Done is closed, Err tells why, and what was cached can still be read.
package store
