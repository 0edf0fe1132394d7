package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// Store is the cluster's database and the cache in front of it.
type Store struct {
	cfg     Config
	backend backend

	tables   atomic.Pointer[map[string]*Table]
	tablesMu sync.Mutex // held to change the map

	applied   atomic.Int64 // every table has reached this revision
	applying  sync.Mutex   // held while one revision is taken into the tables
	compacted atomic.Int64 // states before this revision are gone, as far as this server knows
	waiters   revisionWaiters
	logBytes  atomic.Int64
	packing   sync.Mutex // held while bytes are moved
	warm      warmObjects
	frames    frameCache

	space space
	ttls  expiryLeases

	stop   context.Context // ends with the store
	cancel context.CancelFunc
	wait   sync.WaitGroup

	closing sync.Once
	done    chan struct{}
	errMu   sync.Mutex
	err     error
}

// Open starts the embedded etcd, or connects to an outside one, and begins to follow it.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	b, err := openBackend(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	s := &Store{
		cfg: cfg, backend: b, done: make(chan struct{}),
		warm:   warmObjects{limit: cfg.DecodedBytes},
		frames: frameCache{limit: frameBytes},
	}
	s.stop, s.cancel = context.WithCancel(context.Background())
	s.tables.Store(&map[string]*Table{})
	if err := s.begin(ctx); err != nil {
		s.cancel()
		s.wait.Wait()
		return nil, errors.Join(fmt.Errorf("open the store: %w", err), b.close())
	}
	return s, nil
}

// frameBytes bounds the encoded watch events that are kept for watchers that have not come for them yet.
const frameBytes = 8 << 20

func openBackend(ctx context.Context, cfg Config) (backend, error) {
	if len(cfg.Endpoints) > 0 {
		return openRemote(ctx, cfg)
	}
	if cfg.Dir == "" {
		return nil, errors.New("neither a data directory nor etcd endpoints are given")
	}
	return openEmbedded(ctx, cfg)
}

// begin starts what runs as long as the store does.
func (s *Store) begin(ctx context.Context) error {
	revision, err := s.backend.revision(ctx)
	if err != nil {
		return fmt.Errorf("ask etcd for its revision: %w", err)
	}
	s.applied.Store(revision)
	f, err := s.backend.follow(s.stop, "\x00", "\x00", revision)
	if err != nil {
		return err
	}
	s.wait.Go(func() {
		if err := s.followEtcd(s.stop, f); err != nil {
			s.fail(err)
		}
	})
	s.wait.Go(func() { s.compactRegularly(s.stop) })
	if len(s.cfg.Endpoints) == 0 {
		if err := s.space.open(s); err != nil {
			return err
		}
		s.wait.Go(func() { s.space.watch(s.stop) })
	}
	return nil
}

// fail ends the store from inside.
func (s *Store) fail(err error) {
	s.errMu.Lock()
	if s.err == nil {
		s.err = fmt.Errorf("the store has stopped: %w", err)
	}
	s.errMu.Unlock()
	s.cfg.Logger.Error("the store has stopped", "err", err)
	s.end()
}

// end lets everybody who waits for the store go.
func (s *Store) end() {
	s.closing.Do(func() {
		s.cancel()
		for _, t := range *s.tables.Load() {
			t.close()
		}
		close(s.done)
	})
}

// Close stops the cache and the embedded etcd and waits for both.
func (s *Store) Close() error {
	s.end()
	s.wait.Wait()
	return s.backend.close()
}

// Done is closed when the store has stopped, by Close or by itself.
func (s *Store) Done() <-chan struct{} { return s.done }

// Err tells why the store stopped by itself; nil while it runs and after Close.
func (s *Store) Err() error {
	s.errMu.Lock()
	defer s.errMu.Unlock()
	return s.err
}

// AddTable loads the range below a prefix and keeps it current from then on. It may be called at any time and from
// several goroutines at once; a second call with the same prefix is an error.
func (s *Store) AddTable(ctx context.Context, cfg TableConfig) (*Table, error) {
	if cfg.Prefix == "" || strings.Trim(cfg.Prefix, "/") != cfg.Prefix || cfg.Kind == nil {
		return nil, fmt.Errorf("add table %q: it needs a prefix without slashes at its ends, and a kind", cfg.Prefix)
	}
	t := newTable(s, cfg)
	if err := s.enter(t); err != nil {
		return nil, fmt.Errorf("add table %s: %w", cfg.Prefix, err)
	}
	if err := t.load(ctx); err != nil {
		s.RemoveTable(cfg.Prefix)
		return nil, fmt.Errorf("add table %s: %w", cfg.Prefix, err)
	}
	return t, nil
}

// enter puts a table where the applier finds it.
func (s *Store) enter(t *Table) error {
	s.tablesMu.Lock()
	defer s.tablesMu.Unlock()
	if s.stop.Err() != nil {
		return ErrClosed
	}
	tables := maps.Clone(*s.tables.Load())
	if tables[t.cfg.Prefix] != nil {
		return ErrExists
	}
	tables[t.cfg.Prefix] = t
	s.tables.Store(&tables)
	return nil
}

// RemoveTable forgets a table. Its watchers end with ErrClosed. What lies in etcd stays.
func (s *Store) RemoveTable(prefix string) {
	s.tablesMu.Lock()
	tables := maps.Clone(*s.tables.Load())
	t := tables[prefix]
	delete(tables, prefix)
	s.tables.Store(&tables)
	s.tablesMu.Unlock()
	if t != nil {
		t.close()
	}
}

// close ends a table's watchers and its log.
func (t *Table) close() {
	t.watchers.mu.Lock()
	defer t.watchers.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	t.store.logBytes.Add(-t.recent.reset(t.lastChange))
	t.watchers.closeAll(ErrClosed)
}

// Table returns the table of a prefix.
func (s *Store) Table(prefix string) (*Table, bool) {
	t, ok := (*s.tables.Load())[prefix]
	return t, ok
}

// tableOf finds the table that a full key belongs to: the one with the longest prefix.
func (s *Store) tableOf(key []byte) *Table {
	if len(key) < len(root) || string(key[:len(root)]) != root {
		return nil
	}
	tables := *s.tables.Load()
	var found *Table
	for i := len(root); i < len(key); i++ {
		if key[i] != '/' {
			continue
		}
		if t := tables[string(key[len(root):i])]; t != nil {
			found = t
		}
	}
	return found
}

// ReplaceKind makes every cached object of a table anew with another Kind, after a schema has changed. Readers and
// watchers go on meanwhile; what they read from then on is the new kind's.
func (s *Store) ReplaceKind(ctx context.Context, prefix string, k Kind) error {
	t, ok := s.Table(prefix)
	if !ok {
		return fmt.Errorf("replace the kind of %s: no such table: %w", prefix, ErrNotFound)
	}
	if err := t.replace(ctx, &source{kind: k, warm: &s.warm}); err != nil {
		return fmt.Errorf("replace the kind of %s: %w", prefix, err)
	}
	return nil
}

// Snapshots returns snapshots of several tables, all at one revision.
func (s *Store) Snapshots(tables ...*Table) []Snapshot {
	s.applying.Lock()
	defer s.applying.Unlock()
	out := make([]Snapshot, len(tables))
	highest := s.applied.Load()
	for i, t := range tables {
		out[i] = t.Snapshot()
		highest = max(highest, out[i].revision)
	}
	for i := range out {
		out[i].revision = highest
	}
	return out
}
