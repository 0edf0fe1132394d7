package store

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// AnyRevision lets Put write a key whatever it holds.
const AnyRevision = -1

// Get reads a key as it lies in etcd, linearizably; key is a full one ("/registry/…" or any other).
// ErrNotFound if there is none.
func (s *Store) Get(ctx context.Context, key string) (value []byte, revision int64, err error) {
	resp, err := s.backend.read(ctx, &etcdserverpb.RangeRequest{Key: []byte(key)})
	if err != nil {
		return nil, 0, fmt.Errorf("get %s: %w", key, err)
	}
	if len(resp.Kvs) == 0 {
		return nil, 0, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	return resp.Kvs[0].Value, resp.Kvs[0].ModRevision, nil
}

// Put writes a full key if its revision is ifRevision (0: it must not exist; AnyRevision: whatever it is).
// ErrExists, ErrNotFound or ErrConflict otherwise.
func (s *Store) Put(ctx context.Context, key string, value []byte, ifRevision int64) (revision int64, err error) {
	if err := s.space.check(); err != nil {
		return 0, fmt.Errorf("put %s: %w", key, err)
	}
	w := write{key: key, op: putOp(key, value, 0)}
	if ifRevision != AnyRevision {
		w.condition = ifModified(key, etcdserverpb.Compare_EQUAL, ifRevision)
	}
	revision, head, err := s.commit(ctx, w)
	if err == nil && revision == 0 {
		err = refusal(ErrConflict, head != nil, ErrNotFound)
		if ifRevision == 0 {
			err = ErrExists
		}
	}
	if err != nil {
		return 0, fmt.Errorf("put %s: %w", key, err)
	}
	return revision, nil
}

// Remove deletes a full key if its revision is ifRevision (0: whatever it is). ErrConflict or ErrNotFound otherwise.
func (s *Store) Remove(ctx context.Context, key string, ifRevision int64) (revision int64, err error) {
	revision, head, err := s.commit(ctx, write{key: key, condition: ifStill(key, ifRevision), op: deleteOp(key)})
	if err == nil && revision == 0 {
		err = refusal(ErrConflict, head != nil, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("remove %s: %w", key, err)
	}
	return revision, nil
}
