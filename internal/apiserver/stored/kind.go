package stored

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/wire"
	"clipper.dev/clipper/internal/store"
)

// Version is a version that values may be stored as.
type Version struct {
	New   func() api.Object
	ToHub func(api.Object) (api.Object, error) // nil for the hub itself, and for what looks like it
	// FromHub is its reverse, for the version that is written.
	FromHub func(api.Object) (api.Object, error)
}

// Kind reads and writes one table's values; it is the table's store.Kind.
type Kind struct {
	GVK      schema.GroupVersionKind // of the hub, which is what is written unless WrittenAs says otherwise
	New      func() api.Object       // an empty hub object
	Default  func(api.Object)        // nil when there is nothing to default
	Renew    func(api.Object)        // what is done to values from etcd after Default, or nil
	Restore  func(api.Object)        // nil when protobuf carries everything
	Fields   map[string]func(api.Object) string
	Versions map[schema.GroupVersionKind]Version // all that can be read, the hub among them

	// WrittenAs is what is written where that isn't the hub; one of Versions.
	WrittenAs schema.GroupVersionKind

	// Text is a kind whose objects are unstructured: they are stored and cached as JSON.
	Text bool
	// Stored converts a Text object to the version that is stored; nil when there is only one.
	Stored func(api.Object) (api.Object, error)

	written recent
	// Decoded counts the values that Open had to decode.
	decoded atomic.Int64
}

var _ store.Kind = (*Kind)(nil)

// Message is what generated protobuf code gives an API type.
type Message interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

// Marshal encodes an object as a protobuf message.
func Marshal(obj runtime.Object) ([]byte, error) {
	m, ok := obj.(Message)
	if !ok {
		return nil, fmt.Errorf("%T has no protobuf encoding", obj)
	}
	raw := make([]byte, m.Size())
	if _, err := m.MarshalToSizedBuffer(raw); err != nil {
		return nil, fmt.Errorf("encode a %T: %w", obj, err)
	}
	return raw, nil
}

// Draft is an object encoded for storage.
type Draft struct {
	Value   []byte // for etcd
	message []byte // canonical but for the resourceVersion, which is empty
	record  store.Record
	text    api.Object // of a Text kind, in place of message; its resourceVersion is empty

	stored atomic.Pointer[storedMessage]
}

// A storedMessage is the message at the revision that the database gave it. Who wrote it and the cache share it.
type storedMessage struct {
	revision int64
	bytes    []byte
}

// Encode makes the value of a hub object. It clears the object's resourceVersion, which only the database decides.
func (k *Kind) Encode(obj api.Object) (*Draft, error) {
	obj.SetResourceVersion("")
	obj.SetSelfLink("")
	if k.Text {
		return k.encodeText(obj)
	}
	gvk := k.GVK
	if !k.WrittenAs.Empty() {
		gvk = k.WrittenAs
		if from := k.Versions[gvk].FromHub; from != nil {
			return k.encodeConverted(obj, gvk, from)
		}
	}
	value, message, err := envelope(obj, gvk)
	if err != nil {
		return nil, err
	}
	return &Draft{Value: value, message: message, record: k.record(obj)}, nil
}

// encodeConverted writes a version that has other fields than the hub. What is cached is what will be read back.
func (k *Kind) encodeConverted(obj api.Object, gvk schema.GroupVersionKind, from func(api.Object) (api.Object, error)) (*Draft, error) {
	written, err := from(obj)
	if err != nil {
		return nil, fmt.Errorf("convert a %s for storage: %w", gvk, err)
	}
	value, _, err := envelope(written, gvk)
	if err != nil {
		return nil, err
	}
	back, _, err := k.read(value)
	if err != nil {
		return nil, err
	}
	if k.Default != nil {
		k.Default(back)
	}
	message, err := Marshal(back)
	if err != nil {
		return nil, err
	}
	return &Draft{Value: value, message: message, record: k.record(back)}, nil
}

// envelope encodes an object and puts it into Kubernetes' envelope; message is a part of value.
func envelope(obj api.Object, gvk schema.GroupVersionKind) (value, message []byte, err error) {
	m, ok := obj.(Message)
	if !ok {
		return nil, nil, fmt.Errorf("%T has no protobuf encoding", obj)
	}
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	size := m.Size()
	value = make([]byte, 0, wire.EnvelopeSize(apiVersion, kind, size))
	value = wire.AppendEnvelopeHead(value, apiVersion, kind, size)
	at := len(value)
	value = value[:at+size]
	if _, err := m.MarshalToSizedBuffer(value[at:]); err != nil {
		return nil, nil, fmt.Errorf("encode a %T: %w", obj, err)
	}
	message = value[at : at+size : at+size]
	return wire.AppendEnvelopeTail(value), message, nil
}

// Remember keeps what is known of a draft until the store brings its value back. Call it before the write.
func (k *Kind) Remember(d *Draft) { k.written.add(d) }

// Message is the draft's canonical bytes at the revision that it was stored at: shared, read-only.
func (d *Draft) Message(revision int64) ([]byte, error) {
	if m := d.stored.Load(); m != nil && m.revision == revision {
		return m.bytes, nil
	}
	message, err := d.at(revision)
	if err == nil {
		d.stored.Store(&storedMessage{revision, message})
	}
	return message, err
}

func (d *Draft) at(revision int64) ([]byte, error) {
	if d.text != nil {
		return textAt(d.text, revision)
	}
	return wire.SetResourceVersion(d.message, strconv.FormatInt(revision, 10))
}

// Same tells whether the draft is what canonical bytes at a revision hold already.
func (d *Draft) Same(raw []byte, revision int64) bool {
	if d.text != nil {
		message, err := d.at(revision)
		return err == nil && bytes.Equal(message, raw)
	}
	return wire.SameAt(strconv.FormatInt(revision, 10), d.message, raw)
}

// Open implements store.Kind.
func (k *Kind) Open(value []byte, revision int64) ([]byte, store.Record, error) {
	if d, ok := k.written.take(value); ok {
		raw, err := d.Message(revision)
		return raw, d.record, err
	}
	k.decoded.Add(1)
	obj, canonical, err := k.read(value)
	if err != nil {
		return nil, store.Record{}, err
	}
	if k.Default != nil {
		k.Default(obj)
		canonical = nil
	}
	if k.Renew != nil {
		k.Renew(obj)
		canonical = nil
	}
	if k.Text {
		raw, err := textAt(obj, revision)
		return raw, k.record(obj), err
	}
	if canonical == nil {
		obj.SetSelfLink("")
		if canonical, err = Marshal(obj); err != nil {
			return nil, store.Record{}, err
		}
	}
	raw, err := wire.SetResourceVersion(canonical, strconv.FormatInt(revision, 10))
	if err != nil {
		return nil, store.Record{}, err
	}
	return raw, k.record(obj), nil
}

// read decodes a value into the hub type. canonical is the message itself when it is one of the hub's.
func (k *Kind) read(value []byte) (obj api.Object, canonical []byte, err error) {
	gvk, message, isJSON := k.GVK, value, true
	if wire.Enveloped(value) {
		apiVersion, kind, msg, err := wire.OpenEnvelope(value)
		if err != nil {
			return nil, nil, err
		}
		gvk, message, isJSON = schema.FromAPIVersionAndKind(apiVersion, kind), msg, false
	}
	if isJSON {
		var probe struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if err := json.Unmarshal(value, &probe); err != nil {
			return nil, nil, fmt.Errorf("read a stored %s: %w", k.GVK.Kind, err)
		}
		gvk = schema.FromAPIVersionAndKind(probe.APIVersion, probe.Kind)
	}
	v, ok := k.Versions[gvk]
	if k.Text {
		v, ok = Version{New: k.New}, true
	}
	if !ok {
		return nil, nil, fmt.Errorf("a stored %s is of the unknown type %s", k.GVK.Kind, gvk)
	}
	obj = v.New()
	if err := unmarshal(message, obj, isJSON); err != nil {
		return nil, nil, fmt.Errorf("decode a stored %s: %w", gvk.Kind, err)
	}
	if !k.Text {
		obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	if v.ToHub != nil {
		if obj, err = v.ToHub(obj); err != nil {
			return nil, nil, fmt.Errorf("convert a stored %s: %w", gvk, err)
		}
		return obj, nil, nil
	}
	if isJSON || obj.GetSelfLink() != "" {
		return obj, nil, nil
	}
	return obj, message, nil
}

func unmarshal(message []byte, obj api.Object, isJSON bool) error {
	if isJSON {
		return json.Unmarshal(message, obj)
	}
	m, ok := obj.(Message)
	if !ok {
		return fmt.Errorf("%T has no protobuf encoding", obj)
	}
	return m.Unmarshal(message)
}

// At implements store.Kind.
func (k *Kind) At(raw []byte, revision int64) ([]byte, error) {
	if k.Text {
		obj := k.New()
		if err := unmarshal(raw, obj, true); err != nil {
			return nil, fmt.Errorf("decode a cached %s: %w", k.GVK.Kind, err)
		}
		return textAt(obj, revision)
	}
	return wire.SetResourceVersion(raw, strconv.FormatInt(revision, 10))
}

// Decode implements store.Kind. The object has no TypeMeta, like the items of a list.
func (k *Kind) Decode(raw []byte) (runtime.Object, error) {
	obj, err := k.decode(raw)
	if err != nil {
		return nil, fmt.Errorf("decode a cached %s: %w", k.GVK.Kind, err)
	}
	return obj, nil
}

func (k *Kind) decode(raw []byte) (api.Object, error) {
	obj := k.New()
	if err := unmarshal(raw, obj, k.Text); err != nil {
		return nil, err
	}
	if k.Restore != nil {
		k.Restore(obj)
	}
	return obj, nil
}

// Reread returns an object as it will be read back: empty lists are gone. The resourceVersion stays.
func (k *Kind) Reread(obj api.Object) (api.Object, error) {
	if k.Text {
		return obj, nil
	}
	raw, err := Marshal(obj)
	if err != nil {
		return nil, err
	}
	out, err := k.decode(raw)
	if err != nil {
		return nil, fmt.Errorf("reread a %s: %w", k.GVK.Kind, err)
	}
	return out, nil
}

func (k *Kind) record(obj api.Object) store.Record {
	rec := store.Record{
		Namespace: obj.GetNamespace(),
		Name:      obj.GetName(),
		UID:       obj.GetUID(),
		Labels:    labels.Set(obj.GetLabels()),
		Owners:    obj.GetOwnerReferences(),
		Deleting:  obj.GetDeletionTimestamp() != nil,
	}
	if len(k.Fields) > 0 {
		rec.Fields = make(map[string]string, len(k.Fields))
		for name, value := range k.Fields {
			rec.Fields[name] = value(obj)
		}
	}
	return rec
}
