package store

import (
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"
	"weak"

	"k8s.io/apimachinery/pkg/runtime"
)

// Entry is one version of an object. Read-only and shared.
type Entry struct {
	key      string
	revision int64
	content  content
	record   Record
	source   *source
	decoded  atomic.Pointer[decodedRef]
}

// source is what an entry needs of its table to decode itself. ReplaceKind gives a table a new one.
type source struct {
	kind Kind
	warm *warmObjects
}

// Key is "namespace/name" or "name".
func (e *Entry) Key() string { return e.key }

// Revision is the object's resourceVersion.
func (e *Entry) Revision() int64 { return e.revision }

// Raw is the object's canonical bytes: shared, read-only.
func (e *Entry) Raw() []byte { return e.content.bytes() }

// Record is the object's index record: shared, read-only.
func (e *Entry) Record() *Record { return &e.record }

// Object is the decoded object: shared, read-only; DeepCopy before a change. It is decoded when first asked for and
// stays so while anybody uses it, and for a while longer if it was used lately.
func (e *Entry) Object() (runtime.Object, error) {
	if ref := e.decoded.Load(); ref != nil {
		if obj, ok := ref.object(); ok {
			return obj, nil
		}
	}
	obj, err := e.source.kind.Decode(e.Raw())
	if err != nil {
		return nil, err
	}
	if ref := newDecodedRef(obj); ref != nil {
		e.decoded.Store(ref)
		e.source.warm.keep(ref, obj, e.content.size)
	}
	return obj, nil
}

// size is what an entry costs, nearly.
func (e *Entry) size() int64 {
	if e == nil {
		return 0
	}
	return int64(e.content.size) + entryOverheadBytes
}

const entryOverheadBytes = 320

// supersede notes that there is a newer version: this one stays decoded only while somebody uses it.
func (e *Entry) supersede() {
	if ref := e.decoded.Load(); ref != nil {
		e.source.warm.drop(ref)
	}
}

// decodedRef holds an object without keeping it from being collected, unless it is warm: its type, and a weak pointer to what the
// interface points to.
type decodedRef struct {
	elem    reflect.Type
	pointer weak.Pointer[byte]
	warm    runtime.Object // nil, or the object: it belongs to warmObjects, as does its size
	size    int64
}

func newDecodedRef(obj runtime.Object) *decodedRef {
	v := reflect.ValueOf(obj)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil
	}
	return &decodedRef{elem: v.Type().Elem(), pointer: weak.Make((*byte)(v.UnsafePointer()))}
}

func (r *decodedRef) object() (runtime.Object, bool) {
	p := r.pointer.Value()
	if p == nil {
		return nil, false
	}
	obj, ok := reflect.NewAt(r.elem, unsafe.Pointer(p)).Interface().(runtime.Object)
	return obj, ok
}

// warmObjects keeps the objects that were decoded last from being collected, up to a number of bytes.
type warmObjects struct {
	limit int64

	mu   sync.Mutex
	ring []*decodedRef // oldest at head
	head int
	cold int // of the ring, those before the head too
	size int64
}

// decodedFactor is how much larger an object is than its bytes.
const decodedFactor = 6

func (w *warmObjects) keep(ref *decodedRef, obj runtime.Object, rawBytes int) {
	size := int64(rawBytes)*decodedFactor + entryOverheadBytes
	if size > w.limit {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ref.warm, ref.size = obj, size
	w.ring = append(w.ring, ref)
	w.size += size
	for w.size > w.limit {
		w.cool(w.ring[w.head])
		w.head++
	}
	if w.cold > 1024 && w.cold > len(w.ring)/2 {
		warm := make([]*decodedRef, 0, len(w.ring)-w.cold)
		for _, r := range w.ring {
			if r.warm != nil {
				warm = append(warm, r)
			}
		}
		w.ring, w.head, w.cold = warm, 0, 0
	}
}

// cool lets an object be collected; the lock is held.
func (w *warmObjects) cool(ref *decodedRef) {
	if ref.warm != nil {
		w.size -= ref.size
		w.cold++
		ref.warm, ref.size = nil, 0
	}
}

// drop lets go of one.
func (w *warmObjects) drop(ref *decodedRef) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cool(ref)
}

// release lets go of all of them. Those that somebody uses stay decoded.
func (w *warmObjects) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ref := range w.ring {
		ref.warm = nil
	}
	w.ring, w.head, w.cold, w.size = nil, 0, 0, 0
}
