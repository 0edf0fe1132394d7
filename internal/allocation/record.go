package allocation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"clipper.dev/clipper/internal/store"
)

// recordKey is where all servers of a database, kube-apiserver too, keep which node ports are taken.
const recordKey = "/registry/ranges/servicenodeports"

// A record is the set of numbers that are taken of a range, in the database. Each change of it is a transaction there, so no number is
// given twice, whichever servers give.
type record struct {
	store       *store.Store
	transformer store.Transformer // nil is plain
	spec        string            // "30000-32767"

	mu       sync.Mutex
	bits     *big.Int // as read or written last
	revision int64    // of bits; 0 is not known
}

var errNoRecord = errors.New("cannot allocate resources of type servicenodeportallocations at this time")

// update changes the set. change may be called several times; what it was given last is what counts. What it refuses, or leaves as it is,
// is final only if it looked at the set as it is in the database. If another server was faster, it is tried anew until ctx ends.
func (r *record) update(ctx context.Context, change func(bits *big.Int) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := false
	for ctx.Err() == nil {
		if r.revision == 0 {
			if err := r.read(ctx); err != nil {
				return err
			}
			fresh = true
		}
		next := new(big.Int).Set(r.bits)
		err := change(next)
		if err != nil || next.Cmp(r.bits) == 0 {
			if fresh {
				return err
			}
			r.revision = 0
			continue
		}
		err = r.write(ctx, next)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		r.revision = 0
	}
	return fmt.Errorf("change the record of node ports, as others do all the time: %w", ctx.Err())
}

// look calls fn with the set as it is in the database, which it must not change.
func (r *record) look(ctx context.Context, fn func(bits *big.Int) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.read(ctx); err != nil {
		return err
	}
	return fn(r.bits)
}

// read gets the set. r.mu is held.
func (r *record) read(ctx context.Context) error {
	r.revision = 0
	value, revision, err := r.store.Get(ctx, recordKey)
	if errors.Is(err, store.ErrNotFound) {
		return errNoRecord
	}
	if err != nil {
		return err
	}
	if r.transformer != nil {
		if value, _, err = r.transformer.FromStorage(ctx, recordKey, value); err != nil {
			return fmt.Errorf("decrypt the record of node ports: %w", err)
		}
	}
	var stored corev1.RangeAllocation
	if _, _, err := codec.Decode(value, nil, &stored); err != nil {
		return fmt.Errorf("decode the record of node ports: %w", err)
	}
	if stored.Range != r.spec {
		return fmt.Errorf("the record of node ports is of the range %s, not of %s", stored.Range, r.spec)
	}
	r.bits, r.revision = new(big.Int).SetBytes(stored.Data), revision
	return nil
}

// write stores the set if nobody has since bits were read. r.mu is held. A revision of 0 makes the record.
func (r *record) write(ctx context.Context, bits *big.Int) error {
	var value bytes.Buffer
	o := &corev1.RangeAllocation{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "RangeAllocation"}, Range: r.spec, Data: bits.Bytes()}
	if err := codec.Encode(o, &value); err != nil {
		return fmt.Errorf("encode the record of node ports: %w", err)
	}
	data := value.Bytes()
	if r.transformer != nil {
		var err error
		if data, err = r.transformer.ToStorage(ctx, recordKey, data); err != nil {
			return fmt.Errorf("encrypt the record of node ports: %w", err)
		}
	}
	revision, err := r.store.Put(ctx, recordKey, data, r.revision)
	if err != nil {
		r.revision = 0 // whether it came to pass is not known
		return err
	}
	r.bits, r.revision = bits, revision
	return nil
}

// rebuild replaces the set by what fn makes of it; that is empty where there was no record. Unlike update it makes one.
func (r *record) rebuild(ctx context.Context, fn func(stored *big.Int) (*big.Int, error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ctx.Err() == nil {
		stored := new(big.Int)
		switch err := r.read(ctx); {
		case err == nil:
			stored = r.bits
		case !errors.Is(err, errNoRecord):
			return err
		}
		next, err := fn(stored)
		if err != nil {
			return err
		}
		if r.revision != 0 && next.Cmp(stored) == 0 {
			return nil
		}
		err = r.write(ctx, next)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	return fmt.Errorf("change the record of node ports, as others do all the time: %w", ctx.Err())
}

// codec reads and writes what lies in the database.
var codec = func() *protobuf.Serializer {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.RangeAllocation{})
	return protobuf.NewSerializer(scheme, scheme)
}()
