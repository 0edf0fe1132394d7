package store

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Errors that the write and read methods return, wrapped with the key.
var (
	ErrNotFound  = errors.New("not found")
	ErrExists    = errors.New("already exists")
	ErrConflict  = errors.New("revision conflict")
	ErrCompacted = errors.New("revision has been compacted")
	ErrFuture    = errors.New("revision is in the future")
	ErrFenced    = errors.New("the writer no longer leads")
	ErrNoSpace   = errors.New("no space left: writes are refused until space is freed")
	ErrTooLarge  = errors.New("the object is too large for etcd")
	ErrSlow      = errors.New("the watcher fell too far behind")
	ErrClosed    = errors.New("closed")
)

// GapError ends a watch of a table whose changes have been missed. It is an ErrCompacted; who goes on with the new state finds
// by the former one, which is what the watch has led to, how the two differ.
type GapError struct{ Former Snapshot }

func (*GapError) Error() string { return "changes have been missed: " + ErrCompacted.Error() }

// Is makes it an ErrCompacted.
func (*GapError) Is(target error) bool { return target == ErrCompacted }

// A Kind tells a table how to read its values. It must be safe for concurrent use.
//
// Canonical bytes are what a client receives: for built-in kinds the protobuf message of the stored
// version (without the k8s\0 envelope), for custom resources JSON; metadata.resourceVersion is set in
// them to the value's revision.
type Kind interface {
	// Open turns a value as it lies in etcd (already decrypted) into canonical bytes at a revision, and its index record.
	// It decodes once, converts and defaults when the value is not canonical already.
	Open(value []byte, revision int64) (raw []byte, rec Record, err error)
	// At returns canonical bytes with another resourceVersion in them: a deleted object carries its deletion's.
	At(raw []byte, revision int64) ([]byte, error)
	// Decode makes the Go object of canonical bytes. The caller shares the result: nobody may change it.
	Decode(raw []byte) (runtime.Object, error)
}

// Record is what the cache knows of an object without decoding it. Read-only.
type Record struct {
	Namespace, Name string
	UID             types.UID
	Labels          labels.Set
	Owners          []metav1.OwnerReference
	Fields          map[string]string // the kind's selectable fields beyond metadata.name and metadata.namespace
	Deleting        bool              // deletionTimestamp is set
}

// Transformer encrypts and decrypts values at rest; key is the full etcd key (the authenticated data).
type Transformer interface {
	FromStorage(ctx context.Context, key string, data []byte) (out []byte, stale bool, err error)
	ToStorage(ctx context.Context, key string, data []byte) ([]byte, error)
}

// TableConfig describes one resource's table.
type TableConfig struct {
	// Prefix lies below /registry/ and has no slashes at its ends: "pods", "services/specs", "example.com/widgets".
	Prefix string
	Kind   Kind
	// Indexes names the Record fields that get a secondary index, for indexed watches and ByIndex; owner UIDs always have one.
	Indexes []string
	// Transformer is nil for plain storage.
	Transformer Transformer
}

// OwnerIndex is the name of the index by owner UID.
const OwnerIndex = "metadata.ownerReferences.uid"

// WriteOptions go with a write.
type WriteOptions struct {
	TTL time.Duration // 0: the object does not expire
}

// A Fence is a condition of every write made with its context: the key must still exist with this create revision,
// else the write fails with ErrFenced.
type Fence struct {
	Key            string
	CreateRevision int64
}

type fenceKey struct{}

// WithFence returns a context whose writes are fenced.
func WithFence(ctx context.Context, f Fence) context.Context {
	return context.WithValue(ctx, fenceKey{}, f)
}

// FenceOf returns the fence of a context.
func FenceOf(ctx context.Context) (Fence, bool) {
	f, ok := ctx.Value(fenceKey{}).(Fence)
	return f, ok
}
