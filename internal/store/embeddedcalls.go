package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

func (e *embedded) txn(ctx context.Context, r *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	select {
	case e.proposals <- struct{}{}:
		defer func() { <-e.proposals }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-e.ended:
		return nil, fmt.Errorf("%w: %w", ErrClosed, e.failure())
	}
	resp, err := e.server.Txn(ctx, r)
	return resp, embeddedError(err)
}

func (e *embedded) read(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	if e.alone() {
		r.Serializable = true
	}
	resp, err := e.server.Range(ctx, r)
	return resp, embeddedError(err)
}

func (e *embedded) revision(ctx context.Context) (int64, error) {
	// What a lone voter has applied includes every write that anyone was told of.
	if !e.alone() {
		if err := e.server.LinearizableReadNotify(ctx); err != nil {
			return 0, embeddedError(err)
		}
	}
	return e.server.KV().Rev(), nil
}

func (e *embedded) follow(ctx context.Context, from, to string, after int64) (feed, error) {
	stream := e.server.Watchable().NewWatchStream()
	end := []byte(to)
	if to == "\x00" {
		end = []byte{} // how etcd's inside spells "to the last key"
	}
	id, err := stream.Watch(ctx, 0, []byte(from), end, after+1)
	if err != nil {
		stream.Close()
		return nil, fmt.Errorf("follow etcd after revision %d: %w", after, err)
	}
	return &embeddedFeed{stream: stream, id: id, ended: e.ended, failure: e.failure, logged: e.segments.note}, nil
}

func (e *embedded) grant(ctx context.Context, seconds int64) (int64, error) {
	resp, err := e.server.LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{TTL: seconds})
	if err != nil {
		return 0, embeddedError(err)
	}
	return resp.ID, nil
}

func (e *embedded) renew(ctx context.Context, id int64) error {
	_, err := e.server.LeaseRenew(ctx, lease.LeaseID(id))
	return embeddedError(err)
}

func (e *embedded) revoke(ctx context.Context, id int64) error {
	_, err := e.server.LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: id})
	return embeddedError(err)
}

func (e *embedded) compact(ctx context.Context, revision int64) error {
	_, err := e.server.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: revision, Physical: true})
	return embeddedError(err)
}

func (e *embedded) defragment(context.Context) error {
	e.remap.Lock()
	defer e.remap.Unlock()
	return e.server.Defragment()
}

// trim unmaps the database's pages. Nothing may map the file anew meanwhile, because another mapping in its place would
// lose its content: defragmentation is held off, growth stays within the first mapping, which is as large as the quota, and
// a leader's snapshot comes only to a member that is not alone.
func (e *embedded) trim() error {
	e.remap.Lock()
	defer e.remap.Unlock()
	if !e.alone() {
		return nil
	}
	path, err := filepath.EvalSymlinks(e.server.Cfg.BackendPath())
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	return unmapPages(path)
}

func (e *embedded) snapshot(_ context.Context, w io.Writer) (int64, error) {
	snap := e.server.Backend().Snapshot()
	defer snap.Close()
	// etcd's snapshot files end with their hash, which tools check before they restore one.
	sum := sha256.New()
	n, err := snap.WriteTo(io.MultiWriter(w, sum))
	if err != nil {
		return n, err
	}
	m, err := w.Write(sum.Sum(nil))
	return n + int64(m), err
}

func (e *embedded) status(context.Context) (Status, error) {
	st := Status{
		Revision:   e.server.KV().Rev(),
		Compacted:  e.server.KV().FirstRev(),
		SizeBytes:  e.server.Backend().Size(),
		InUseBytes: e.server.Backend().SizeInUse(),
		MemberID:   uint64(e.server.MemberID()),
		LeaderID:   e.server.Lead(),
		Members:    membersOf(e.server.Cluster().Members()),
	}
	for _, a := range e.server.Alarms() {
		st.Alarmed = st.Alarmed || a.Alarm == etcdserverpb.AlarmType_NOSPACE
	}
	return st, nil
}

func (e *embedded) disarm(ctx context.Context) error {
	for _, a := range e.server.Alarms() {
		if a.Alarm != etcdserverpb.AlarmType_NOSPACE {
			continue
		}
		r := &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_DEACTIVATE, MemberID: a.MemberID, Alarm: a.Alarm}
		if _, err := e.server.Alarm(ctx, r); err != nil {
			return embeddedError(err)
		}
	}
	return nil
}

func (e *embedded) addLearner(ctx context.Context, peerURL string) ([]Member, error) {
	urls, err := types.NewURLs([]string{peerURL})
	if err != nil {
		return nil, fmt.Errorf("peer URL %q: %w", peerURL, err)
	}
	m := membership.NewMemberAsLearner("", urls, "", nil)
	// etcd refuses until every member has been connected for some seconds.
	again := time.NewTicker(healthRetry)
	defer again.Stop()
	for {
		all, err := e.server.AddMember(ctx, *m)
		if !errors.Is(err, etcderrors.ErrUnhealthy) {
			return membersOf(all), embeddedError(err)
		}
		select {
		case <-again.C:
		case <-e.ended:
			return nil, e.failure()
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

func (e *embedded) promote(ctx context.Context, id uint64) error {
	_, err := e.server.PromoteMember(ctx, id)
	return embeddedError(err)
}

func (e *embedded) removeMember(ctx context.Context, id uint64) error {
	_, err := e.server.RemoveMember(ctx, id)
	return embeddedError(err)
}

// healthRetry is how often a member is added anew until the cluster is healthy.
const healthRetry = 200 * time.Millisecond

func membersOf(in []*membership.Member) []Member {
	out := make([]Member, 0, len(in))
	for _, m := range in {
		peer := ""
		if len(m.PeerURLs) > 0 {
			peer = m.PeerURLs[0]
		}
		out = append(out, Member{ID: uint64(m.ID), Name: m.Name, PeerURL: peer, Learner: m.IsLearner})
	}
	return out
}

// embeddedError puts etcd's errors into this package's words.
func embeddedError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mvcc.ErrCompacted):
		return fmt.Errorf("%w: %w", ErrCompacted, err)
	case errors.Is(err, mvcc.ErrFutureRev):
		return fmt.Errorf("%w: %w", ErrFuture, err)
	case errors.Is(err, etcderrors.ErrNoSpace):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, etcderrors.ErrRequestTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, lease.ErrLeaseNotFound):
		return fmt.Errorf("%w: %w", errNoLease, err)
	case errors.Is(err, etcderrors.ErrStopped):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// embeddedFeed reads etcd's watch in process.
type embeddedFeed struct {
	stream  mvcc.WatchStream
	id      mvcc.WatchID
	ended   <-chan struct{}
	failure func() error
	logged  func(bytes int)
}

func (f *embeddedFeed) next(ctx context.Context) (feedBatch, error) {
	select {
	case r, ok := <-f.stream.Chan():
		if !ok {
			return feedBatch{}, ErrClosed
		}
		if r.CompactRevision != 0 {
			return feedBatch{}, ErrCompacted
		}
		for _, ev := range r.Events {
			f.logged(len(ev.Kv.Key) + len(ev.Kv.Value) + recordBytes)
		}
		if n := len(r.Events); n > 0 {
			return feedBatch{events: r.Events, revision: r.Events[n-1].Kv.ModRevision}, nil
		}
		return feedBatch{revision: r.Revision}, nil
	case <-f.ended:
		return feedBatch{}, f.failure()
	case <-ctx.Done():
		return feedBatch{}, context.Cause(ctx)
	}
}

func (f *embeddedFeed) progress(context.Context) error {
	f.stream.RequestProgress(f.id)
	return nil
}

func (f *embeddedFeed) close() { f.stream.Close() }
