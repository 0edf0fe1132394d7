package store

import (
	"context"
	"fmt"
	"io"
)

// Status describes the database.
type Status struct {
	Revision   int64 // etcd's
	Cached     int64 // the cache's
	Compacted  int64 // history before this revision is gone; 0 if none is, or if it is not known
	SizeBytes  int64
	InUseBytes int64
	QuotaBytes int64
	NoSpace    bool // writes are refused
	Alarmed    bool // etcd itself refuses writes, since its quota was exceeded
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

// Status describes the database.
func (s *Store) Status(ctx context.Context) (Status, error) {
	st, err := s.backend.status(ctx)
	if err != nil {
		return Status{}, fmt.Errorf("etcd status: %w", err)
	}
	st.Cached = s.applied.Load()
	st.QuotaBytes = s.cfg.QuotaBytes
	st.NoSpace = st.Alarmed || s.space.check() != nil
	return st, nil
}

// Snapshot writes the whole database as an etcd snapshot file and returns its size.
func (s *Store) Snapshot(ctx context.Context, w io.Writer) (int64, error) {
	n, err := s.backend.snapshot(ctx, w)
	if err != nil {
		return n, fmt.Errorf("etcd snapshot: %w", err)
	}
	return n, nil
}

// AddMember prepares another server's joining: it is entered as a learner at its peer URL, and what Join it starts with
// is returned. It waits until all present members are reachable, for as long as its context lasts.
func (s *Store) AddMember(ctx context.Context, name, peerURL string) (Join, error) {
	all, err := s.backend.addLearner(ctx, peerURL)
	if err != nil {
		return Join{}, fmt.Errorf("add member %s: %w", name, err)
	}
	j := Join{Members: map[string]string{}}
	for _, m := range all {
		if m.PeerURL == peerURL {
			m.Name = name
		}
		j.Members[m.Name] = m.PeerURL
	}
	return j, nil
}

// PromoteMember makes a learner that has caught up a voter. It fails while the learner is behind.
func (s *Store) PromoteMember(ctx context.Context, id uint64) error {
	if err := s.backend.promote(ctx, id); err != nil {
		return fmt.Errorf("promote member %x: %w", id, err)
	}
	return nil
}

// RemoveMember takes a member out of the cluster.
func (s *Store) RemoveMember(ctx context.Context, id uint64) error {
	if err := s.backend.removeMember(ctx, id); err != nil {
		return fmt.Errorf("remove member %x: %w", id, err)
	}
	return nil
}
