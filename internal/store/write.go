package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Create writes an object that must not exist yet. Keys are "namespace/name" or "name"; value is what etcd shall hold
// before encryption. ErrExists if there is one.
func (t *Table) Create(ctx context.Context, key string, value []byte, o WriteOptions) (revision int64, err error) {
	w := write{key: t.path(key), condition: ifModified(t.path(key), etcdserverpb.Compare_EQUAL, 0)}
	revision, head, err := t.putValue(ctx, w, value, o)
	if err == nil && revision == 0 {
		err = refusal(ErrExists, head != nil, ErrConflict)
	}
	if err != nil {
		return 0, fmt.Errorf("create %s: %w", t.path(key), err)
	}
	return revision, nil
}

// Update replaces an object whose revision is ifRevision (0: whatever it is). ErrConflict or ErrNotFound otherwise.
func (t *Table) Update(ctx context.Context, key string, value []byte, ifRevision int64, o WriteOptions) (revision int64, err error) {
	if t.outdated(key, ifRevision) {
		return 0, fmt.Errorf("update %s: %w", t.path(key), ErrConflict)
	}
	w := write{key: t.path(key), condition: ifStill(t.path(key), ifRevision)}
	revision, head, err := t.putValue(ctx, w, value, o)
	if err == nil && revision == 0 {
		err = refusal(ErrConflict, head != nil, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("update %s: %w", t.path(key), err)
	}
	return revision, nil
}

// Delete removes an object whose revision is ifRevision (0: whatever it is). ErrConflict or ErrNotFound otherwise.
func (t *Table) Delete(ctx context.Context, key string, ifRevision int64) (revision int64, err error) {
	if t.outdated(key, ifRevision) {
		return 0, fmt.Errorf("delete %s: %w", t.path(key), ErrConflict)
	}
	w := write{key: t.path(key), condition: ifStill(t.path(key), ifRevision), op: deleteOp(t.path(key))}
	revision, head, err := t.store.commit(ctx, w)
	if err == nil && revision == 0 {
		err = refusal(ErrConflict, head != nil, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("delete %s: %w", t.path(key), err)
	}
	return revision, nil
}

// ifStill is the condition that a key has a revision; 0 stands for any.
func ifStill(key string, revision int64) *etcdserverpb.Compare {
	if revision == 0 {
		return ifModified(key, etcdserverpb.Compare_GREATER, 0)
	}
	return ifModified(key, etcdserverpb.Compare_EQUAL, revision)
}

// refusal is why a condition did not hold: one reason if the key exists, another if it does not.
func refusal(present error, exists bool, absent error) error {
	if exists {
		return present
	}
	return absent
}

// outdated tells that a condition cannot hold, since a newer version has been seen. It saves etcd the transaction.
func (t *Table) outdated(key string, ifRevision int64) bool {
	if ifRevision == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.state.get(key)
	return e != nil && e.revision > ifRevision
}

// putValue encrypts a value, gives it its time to live, and writes it.
func (t *Table) putValue(ctx context.Context, w write, value []byte, o WriteOptions) (int64, *mvccpb.KeyValue, error) {
	if err := t.store.space.check(); err != nil {
		return 0, nil, err
	}
	if t.cfg.Transformer != nil {
		var err error
		if value, err = t.cfg.Transformer.ToStorage(ctx, w.key, value); err != nil {
			return 0, nil, fmt.Errorf("encrypt: %w", err)
		}
	}
	if o.TTL <= 0 {
		w.op = putOp(w.key, value, 0)
		return t.store.commit(ctx, w)
	}
	for attempt := 0; ; attempt++ {
		lease, err := t.store.ttls.lease(ctx, t.store.backend, o.TTL)
		if err != nil {
			return 0, nil, fmt.Errorf("grant a lease of %s: %w", o.TTL, err)
		}
		w.op = putOp(w.key, value, lease)
		revision, head, err := t.store.commit(ctx, w)
		if attempt == 0 && errors.Is(err, errNoLease) {
			t.store.ttls.forget(lease)
			continue
		}
		return revision, head, err
	}
}

// write is a conditional change of one key.
type write struct {
	key       string
	condition *etcdserverpb.Compare // nil: none
	op        *etcdserverpb.RequestOp
}

// commit makes a write, under the fence of its context. Revision 0 without an error says that the condition did not
// hold; head is then the key as it is, without its value, or nil if there is none.
func (s *Store) commit(ctx context.Context, w write) (revision int64, head *mvccpb.KeyValue, err error) {
	r := &etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{w.op}, Failure: []*etcdserverpb.RequestOp{headOp(w.key)}}
	if w.condition != nil {
		r.Compare = append(r.Compare, w.condition)
	}
	fence, fenced := FenceOf(ctx)
	if fenced {
		r.Compare = append(r.Compare, ifCreated(fence.Key, fence.CreateRevision))
		r.Failure = append(r.Failure, headOp(fence.Key))
	}
	resp, err := s.backend.txn(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	if resp.Succeeded {
		return resp.Header.Revision, nil, nil
	}
	if fenced {
		kv := firstOf(resp.Responses[1])
		if kv == nil || kv.CreateRevision != fence.CreateRevision {
			return 0, nil, fmt.Errorf("%s: %w", fence.Key, ErrFenced)
		}
	}
	return 0, firstOf(resp.Responses[0]), nil
}

// firstOf is the key that a read within a transaction found.
func firstOf(r *etcdserverpb.ResponseOp) *mvccpb.KeyValue {
	if kvs := r.GetResponseRange().GetKvs(); len(kvs) > 0 {
		return kvs[0]
	}
	return nil
}
