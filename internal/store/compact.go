package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// compactKey is where API servers that share an etcd agree on who compacts: the one that raises its version. Its value
// is the revision that is compacted next time. kube-apiserver uses the same key in the same way.
const compactKey = "compact_rev_key"

// Defragmenting is worthwhile when this much of the file is free.
const (
	defragMinBytes = 64 << 20
	defragShare    = 2 // one part of so many
)

// compactRegularly discards history that is older than one interval.
func (s *Store) compactRegularly(ctx context.Context) {
	if s.cfg.CompactEvery < 0 {
		return
	}
	every := time.NewTicker(s.cfg.CompactEvery)
	defer every.Stop()
	started := time.NewTimer(startedAfter)
	defer started.Stop()
	pages := time.NewTicker(pagesEvery)
	defer pages.Stop()
	var turn compactTurn
	for {
		select {
		case <-ctx.Done():
			return
		case <-started.C:
			s.letGoOfPages()
			continue
		case <-pages.C:
			s.letGoOfPages()
			continue
		case <-every.C:
		}
		s.trimBefore(turn.revision)
		if err := s.takeTurn(ctx, &turn); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("compaction failed", "err", err)
		}
		if err := s.defragmentIfWorthwhile(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("defragmentation failed", "err", err)
		}
		s.letGoOfPages()
	}
}

// startedAfter is when a server's start is surely over, and with it the reading of the whole database.
const startedAfter = 15 * time.Second

// pagesEvery is how often pages that writes have touched are let go of.
const pagesEvery = time.Minute

func (s *Store) letGoOfPages() {
	if err := s.backend.trim(); err != nil {
		s.cfg.Logger.Warn("the database's pages stay in memory", "err", err)
	}
}

// compactTurn is what is known of compactKey: its version, and etcd's revision when it was written.
type compactTurn struct {
	version  int64
	revision int64
}

// takeTurn compacts up to the revision of the former turn, unless another server has taken this one.
func (s *Store) takeTurn(ctx context.Context, turn *compactTurn) error {
	former := *turn
	resp, err := s.backend.txn(ctx, &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{ifVersion(compactKey, former.version)},
		Success: []*etcdserverpb.RequestOp{putOp(compactKey, []byte(strconv.FormatInt(former.revision, 10)), 0)},
		Failure: []*etcdserverpb.RequestOp{getOp(compactKey)},
	})
	if err != nil {
		return fmt.Errorf("take the turn to compact: %w", err)
	}
	turn.revision = resp.Header.Revision
	if !resp.Succeeded {
		if kv := firstOf(resp.Responses[0]); kv != nil {
			turn.version = kv.Version
			s.noteCompacted(kv.Value)
		} else {
			turn.version = 0
		}
		return nil
	}
	turn.version = former.version + 1
	if former.revision == 0 {
		return nil // the first turn only marks where the next one compacts to
	}
	return s.Compact(ctx, former.revision)
}

// noteCompacted learns from the value of compactKey what another server compacts.
func (s *Store) noteCompacted(value []byte) {
	if revision, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		s.raiseCompacted(revision)
	}
}

// raiseCompacted lets go of states before a revision, those that the logs could still make too: a list in pages that
// began long ago expires on every server, whatever its memory holds. Watches go on while their log has what they miss.
func (s *Store) raiseCompacted(revision int64) {
	for {
		known := s.compacted.Load()
		if revision <= known || s.compacted.CompareAndSwap(known, revision) {
			return
		}
	}
}

// Compact discards history before a revision. A revision that is compacted already is not an error.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	if err := s.backend.compact(ctx, revision); err != nil && !errors.Is(err, ErrCompacted) {
		return fmt.Errorf("compact to revision %d: %w", revision, err)
	}
	s.raiseCompacted(revision)
	return nil
}

// Defragment returns the free pages of this member's database file to the file system. Writes wait meanwhile.
func (s *Store) Defragment(ctx context.Context) error {
	if err := s.backend.defragment(ctx); err != nil {
		return fmt.Errorf("defragment: %w", err)
	}
	return nil
}

func (s *Store) defragmentIfWorthwhile(ctx context.Context) error {
	if len(s.cfg.Endpoints) > 0 {
		return nil // an outside cluster has its own operator
	}
	st, err := s.backend.status(ctx)
	if err != nil {
		return err
	}
	if free := st.SizeBytes - st.InUseBytes; free < defragMinBytes || free < st.SizeBytes/defragShare {
		return nil
	}
	return s.Defragment(ctx)
}
