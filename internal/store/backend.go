package store

import (
	"context"
	"io"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// A backend is an etcd: the embedded one, called in process, or an outside cluster behind a client.
// Its errors are this package's where one fits.
type backend interface {
	txn(ctx context.Context, r *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error)
	// read is a range request. One with Serializable set answers from this member's state, which may lag.
	read(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error)
	// revision is etcd's revision, at or after every write that was acknowledged before the call.
	revision(ctx context.Context) (int64, error)
	// follow streams the changes of the keys in [from, to) after a revision.
	follow(ctx context.Context, from, to string, after int64) (feed, error)

	grant(ctx context.Context, seconds int64) (id int64, err error)
	renew(ctx context.Context, id int64) error
	revoke(ctx context.Context, id int64) error

	compact(ctx context.Context, revision int64) error
	defragment(ctx context.Context) error
	// trim lets go of memory that can be had again.
	trim() error
	snapshot(ctx context.Context, w io.Writer) (int64, error)
	status(ctx context.Context) (Status, error)
	// disarm ends etcd's own refusal of writes after its quota was exceeded.
	disarm(ctx context.Context) error

	addLearner(ctx context.Context, peerURL string) ([]Member, error)
	promote(ctx context.Context, id uint64) error
	removeMember(ctx context.Context, id uint64) error

	// stopped is closed when the backend ends by itself; failure tells why.
	stopped() <-chan struct{}
	failure() error
	close() error
}

// A feed is a stream of changes. It has one reader.
type feed interface {
	// next waits for a batch. A batch holds whole revisions, in order. An empty one is an answer to progress: everything up
	// to its revision has been delivered. ErrCompacted when the feed's start is gone.
	next(ctx context.Context) (feedBatch, error)
	// progress asks for an empty batch. It may go unanswered while changes are still on their way.
	progress(ctx context.Context) error
	close()
}

type feedBatch struct {
	events   []*mvccpb.Event
	revision int64
}

// putOp and its siblings spell the parts of a transaction.
func putOp(key string, value []byte, lease int64) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{
		RequestPut: &etcdserverpb.PutRequest{Key: []byte(key), Value: value, Lease: lease},
	}}
}

func deleteOp(key string) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(key)},
	}}
}

// headOp reads a key without its value.
func headOp(key string) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{
		RequestRange: &etcdserverpb.RangeRequest{Key: []byte(key), KeysOnly: true},
	}}
}

func getOp(key string) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{
		RequestRange: &etcdserverpb.RangeRequest{Key: []byte(key)},
	}}
}

// ifModified compares a key's revision; 0 means that the key does not exist.
func ifModified(key string, result etcdserverpb.Compare_CompareResult, revision int64) *etcdserverpb.Compare {
	return &etcdserverpb.Compare{
		Result: result, Target: etcdserverpb.Compare_MOD, Key: []byte(key),
		TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: revision},
	}
}

func ifCreated(key string, revision int64) *etcdserverpb.Compare {
	return &etcdserverpb.Compare{
		Result: etcdserverpb.Compare_EQUAL, Target: etcdserverpb.Compare_CREATE, Key: []byte(key),
		TargetUnion: &etcdserverpb.Compare_CreateRevision{CreateRevision: revision},
	}
}

func ifVersion(key string, version int64) *etcdserverpb.Compare {
	return &etcdserverpb.Compare{
		Result: etcdserverpb.Compare_EQUAL, Target: etcdserverpb.Compare_VERSION, Key: []byte(key),
		TargetUnion: &etcdserverpb.Compare_Version{Version: version},
	}
}

// rangeEnd is the end of the range of all keys that begin with prefix.
func rangeEnd(prefix string) string {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return string(end[:i+1])
		}
	}
	return "\x00"
}
