package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	dialTimeout   = 10 * time.Second
	keepAliveTime = 30 * time.Second
)

// remote is an outside etcd cluster.
type remote struct {
	client *clientv3.Client
	kv     etcdserverpb.KVClient
	never  chan struct{}
}

func openRemote(ctx context.Context, cfg Config) (*remote, error) {
	c, err := clientv3.New(clientv3.Config{
		Context:            context.WithoutCancel(ctx),
		Endpoints:          cfg.Endpoints,
		TLS:                cfg.TLS,
		DialTimeout:        dialTimeout,
		DialKeepAliveTime:  keepAliveTime,
		MaxCallSendMsgSize: 2 * maxRequestBytes,
		Logger:             newZapLogger(cfg.Logger, func(error) {}),
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %v: %w", cfg.Endpoints, err)
	}
	return &remote{client: c, kv: clientv3.RetryKVClient(c), never: make(chan struct{})}, nil
}

func (r *remote) txn(ctx context.Context, q *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	resp, err := r.kv.Txn(ctx, q)
	return resp, remoteError(err)
}

func (r *remote) read(ctx context.Context, q *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	resp, err := r.kv.Range(ctx, q)
	return resp, remoteError(err)
}

func (r *remote) revision(ctx context.Context) (int64, error) {
	resp, err := r.kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(compactKey), CountOnly: true})
	if err != nil {
		return 0, remoteError(err)
	}
	return resp.Header.Revision, nil
}

func (r *remote) follow(ctx context.Context, from, to string, after int64) (feed, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	ch := r.client.Watch(ctx, from, clientv3.WithRange(to), clientv3.WithRev(after+1))
	return &remoteFeed{client: r.client, ctx: ctx, cancel: cancel, ch: ch}, nil
}

func (r *remote) grant(ctx context.Context, seconds int64) (int64, error) {
	resp, err := r.client.Grant(ctx, seconds)
	if err != nil {
		return 0, remoteError(err)
	}
	return int64(resp.ID), nil
}

func (r *remote) renew(ctx context.Context, id int64) error {
	_, err := r.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
	return remoteError(err)
}

func (r *remote) revoke(ctx context.Context, id int64) error {
	_, err := r.client.Revoke(ctx, clientv3.LeaseID(id))
	return remoteError(err)
}

func (r *remote) compact(ctx context.Context, revision int64) error {
	_, err := r.client.Compact(ctx, revision)
	return remoteError(err)
}

func (r *remote) defragment(ctx context.Context) error {
	for _, endpoint := range r.client.Endpoints() {
		if _, err := r.client.Defragment(ctx, endpoint); err != nil {
			return fmt.Errorf("%s: %w", endpoint, remoteError(err))
		}
	}
	return nil
}

// trim has nothing to do: an outside cluster's memory is its own.
func (r *remote) trim() error { return nil }

func (r *remote) snapshot(ctx context.Context, w io.Writer) (int64, error) {
	rc, err := r.client.Snapshot(ctx)
	if err != nil {
		return 0, remoteError(err)
	}
	n, err := io.Copy(w, rc)
	return n, errors.Join(err, rc.Close())
}

func (r *remote) status(ctx context.Context) (Status, error) {
	resp, err := r.client.Status(ctx, r.client.Endpoints()[0])
	if err != nil {
		return Status{}, remoteError(err)
	}
	list, err := r.client.MemberList(ctx)
	if err != nil {
		return Status{}, remoteError(err)
	}
	alarms, err := r.client.AlarmList(ctx)
	if err != nil {
		return Status{}, remoteError(err)
	}
	st := Status{
		Revision: resp.Header.Revision, SizeBytes: resp.DbSize, InUseBytes: resp.DbSizeInUse,
		MemberID: resp.Header.MemberId, LeaderID: resp.Leader, Members: remoteMembers(list.Members),
	}
	for _, a := range alarms.Alarms {
		st.Alarmed = st.Alarmed || a.Alarm == etcdserverpb.AlarmType_NOSPACE
	}
	return st, nil
}

func (r *remote) disarm(ctx context.Context) error {
	_, err := r.client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	return remoteError(err)
}

func (r *remote) addLearner(ctx context.Context, peerURL string) ([]Member, error) {
	resp, err := r.client.MemberAddAsLearner(ctx, []string{peerURL})
	if err != nil {
		return nil, remoteError(err)
	}
	return remoteMembers(resp.Members), nil
}

func (r *remote) promote(ctx context.Context, id uint64) error {
	_, err := r.client.MemberPromote(ctx, id)
	return remoteError(err)
}

func (r *remote) removeMember(ctx context.Context, id uint64) error {
	_, err := r.client.MemberRemove(ctx, id)
	return remoteError(err)
}

// stopped never closes: the client connects again by itself.
func (r *remote) stopped() <-chan struct{} { return r.never }

func (r *remote) failure() error { return errors.New("the etcd client has stopped") }

func (r *remote) close() error { return r.client.Close() }

func remoteMembers(in []*etcdserverpb.Member) []Member {
	out := make([]Member, 0, len(in))
	for _, m := range in {
		peer := ""
		if len(m.PeerURLs) > 0 {
			peer = m.PeerURLs[0]
		}
		out = append(out, Member{ID: m.ID, Name: m.Name, PeerURL: peer, Learner: m.IsLearner})
	}
	return out
}

// remoteError puts etcd's errors into this package's words.
func remoteError(err error) error {
	if err == nil {
		return nil
	}
	known := rpctypes.Error(err)
	switch {
	case errors.Is(known, rpctypes.ErrCompacted):
		return fmt.Errorf("%w: %w", ErrCompacted, err)
	case errors.Is(known, rpctypes.ErrFutureRev):
		return fmt.Errorf("%w: %w", ErrFuture, err)
	case errors.Is(known, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(known, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(known, rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("%w: %w", errNoLease, err)
	}
	return err
}

// remoteFeed reads a watch over gRPC.
type remoteFeed struct {
	client *clientv3.Client
	ctx    context.Context
	cancel context.CancelFunc
	ch     clientv3.WatchChan
}

func (f *remoteFeed) next(ctx context.Context) (feedBatch, error) {
	select {
	case r, ok := <-f.ch:
		if !ok {
			return feedBatch{}, ErrClosed
		}
		if r.CompactRevision != 0 {
			return feedBatch{}, ErrCompacted
		}
		if err := r.Err(); err != nil {
			return feedBatch{}, remoteError(err)
		}
		if n := len(r.Events); n > 0 {
			return feedBatch{events: r.Events, revision: r.Events[n-1].Kv.ModRevision}, nil
		}
		return feedBatch{revision: r.Header.Revision}, nil
	case <-ctx.Done():
		return feedBatch{}, context.Cause(ctx)
	}
}

func (f *remoteFeed) progress(context.Context) error {
	return remoteError(f.client.RequestProgress(f.ctx))
}

func (f *remoteFeed) close() { f.cancel() }
