package apiserver

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/stored"
	"clipper.dev/clipper/internal/apiserver/wire"
	"clipper.dev/clipper/internal/store"
)

// A document is one version of an object, as Go object, as canonical bytes, or both: each is made from the other when
// it is asked for. The object is the hub's and read-only.
type document struct {
	obj      api.Object
	raw      []byte
	entry    *store.Entry
	draft    *stored.Draft // what has just been written, at revision
	revision int64
}

func documentOf(e *store.Entry) *document { return &document{raw: e.Raw(), entry: e} }

// version is the revision at which what is stored has been written.
func (d *document) version() int64 {
	if d.entry != nil {
		return d.entry.Revision()
	}
	return d.revision
}

// object returns the hub object.
func (d *document) object() (api.Object, error) {
	if d.obj != nil {
		return d.obj, nil
	}
	return objectOf(d.entry)
}

func objectOf(e *store.Entry) (api.Object, error) {
	o, err := e.Object()
	if err != nil {
		return nil, err
	}
	obj, ok := o.(api.Object)
	if !ok {
		return nil, fmt.Errorf("%s: a %T has no metadata", e.Key(), o)
	}
	return obj, nil
}

// in returns the object in a version, with its TypeMeta; the result is the caller's only at its top level.
func (d *document) in(v *version) (api.Object, error) {
	hub, err := d.object()
	if err != nil {
		return nil, err
	}
	if d.entry == nil && v.kind != nil { // it's shown as it will be read back; what is found at the time of a request never is
		if hub, err = v.kind.Reread(hub); err != nil {
			return nil, err
		}
	}
	o, err := v.fromHub(hub)
	if err != nil {
		return nil, err
	}
	return typed(o, v.gvk).(api.Object), nil
}

// message returns the object in a version as a protobuf message.
func (d *document) message(v *version) ([]byte, error) {
	if d.raw != nil && v.stable() {
		return d.raw, nil
	}
	if d.draft != nil && v.stable() {
		return d.draft.Message(d.revision)
	}
	o, err := d.object()
	if err != nil {
		return nil, err
	}
	if o, err = v.fromHub(o); err != nil {
		return nil, err
	}
	return stored.Marshal(o)
}

// typed returns a shallow copy of an object that may be shared, with its apiVersion and kind set.
func typed(o runtime.Object, gvk schema.GroupVersionKind) runtime.Object {
	if u, ok := o.(*unstructured.Unstructured); ok {
		return typedText(u, gvk)
	}
	v := reflect.ValueOf(o)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return o
	}
	c := reflect.New(v.Elem().Type())
	c.Elem().Set(v.Elem())
	out := c.Interface().(runtime.Object)
	out.GetObjectKind().SetGroupVersionKind(gvk)
	return out
}

// appendDocument appends one stored object in a version to dst, which is empty.
func appendDocument(dst []byte, d *document, v *version, m negotiate.Media) ([]byte, error) {
	if m.Format == negotiate.Protobuf {
		msg, err := d.message(v)
		if err != nil {
			return nil, err
		}
		apiVersion, kind := v.gvk.ToAPIVersionAndKind()
		return wire.AppendEnvelope(slices.Grow(dst, wire.EnvelopeSize(apiVersion, kind, len(msg))), apiVersion, kind, msg), nil
	}
	o, err := d.in(v)
	if err != nil {
		return nil, err
	}
	return encodeText(o, m)
}

// encodeObject writes any object that has its TypeMeta: subresource bodies, lists of other kinds, Status.
func encodeObject(o runtime.Object, m negotiate.Media) ([]byte, error) {
	if m.Format != negotiate.Protobuf {
		return encodeText(o, m)
	}
	msg, err := stored.Marshal(o)
	if err != nil {
		return nil, err
	}
	apiVersion, kind := o.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
	return wire.AppendEnvelope(nil, apiVersion, kind, msg), nil
}

// encodeText writes JSON with the newline that upstream ends it with, or YAML.
func encodeText(o any, m negotiate.Media) ([]byte, error) {
	if m.Pretty && m.Format == negotiate.JSON {
		return json.MarshalIndent(o, "", "  ")
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode a %T: %w", o, err)
	}
	if m.Format == negotiate.YAML {
		return yaml.JSONToYAML(raw)
	}
	return append(raw, '\n'), nil
}
