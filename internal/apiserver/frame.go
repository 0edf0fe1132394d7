package apiserver

import (
	"encoding/json"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/stored"
	"clipper.dev/clipper/internal/apiserver/wire"
	"clipper.dev/clipper/internal/store"
)

// frameFormats numbers the forms in which events are sent, so that watchers who want the same form share its bytes.
type frameFormats struct {
	mu      sync.Mutex
	numbers map[frameFormat]int
}

type frameFormat struct {
	kind   string
	format negotiate.Format
	shape  negotiate.Shape
	meta   string
}

func (f *frameFormats) number(key frameFormat) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.numbers == nil {
		f.numbers = map[frameFormat]int{}
	}
	n, ok := f.numbers[key]
	if !ok {
		n = len(f.numbers) + 1
		f.numbers[key] = n
	}
	return n
}

// eventFrame returns an event's frame, shared with the other watchers of its form.
func (v *version) eventFrame(e store.Event, s *watchStream) ([]byte, error) {
	if s.tables != nil {
		return v.frameOf(e.Entry(), s, e.Type.String())
	}
	if s.format == 0 {
		s.format = s.server.frames.number(frameFormat{v.gvk.String(), s.media.Format, s.media.Shape, s.media.Meta})
	}
	return e.Frame(s.format, func() ([]byte, error) { return v.frameOf(e.Entry(), s, e.Type.String()) })
}

// frameOf encodes one object as an event.
func (v *version) frameOf(e *store.Entry, s *watchStream, eventType string) ([]byte, error) {
	if s.media.Shape == negotiate.AsIs && s.media.Format == negotiate.Protobuf {
		msg, err := documentOf(e).message(v)
		if err != nil {
			return nil, err
		}
		apiVersion, kind := v.gvk.ToAPIVersionAndKind()
		return wire.WatchFrame(eventType, apiVersion, kind, msg), nil
	}
	o, err := documentOf(e).in(v)
	if err != nil {
		return nil, err
	}
	return encodeEvent(eventType, o, s)
}

// encodeEvent encodes an object of the stream's version in the stream's shape.
func encodeEvent(eventType string, o api.Object, s *watchStream) ([]byte, error) {
	var out runtime.Object
	switch s.media.Shape {
	case negotiate.AsIs:
		out = typed(o, s.v.gvk)
	case negotiate.Table:
		table, err := s.tables.next(o, eventType == "BOOKMARK")
		if err != nil {
			return nil, err
		}
		out = table
	case negotiate.Metadata, negotiate.MetadataList:
		out = s.v.partialOf(o, s.media.Meta)
	}
	return encodeFrame(eventType, out, s.media)
}

// encodeFrame encodes an object that has its TypeMeta.
func encodeFrame(eventType string, o runtime.Object, m negotiate.Media) ([]byte, error) {
	if m.Format == negotiate.Protobuf {
		msg, err := stored.Marshal(o)
		if err != nil {
			return nil, err
		}
		apiVersion, kind := o.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
		return wire.WatchFrame(eventType, apiVersion, kind, msg), nil
	}
	body, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode a %T for a watch: %w", o, err)
	}
	return jsonFrame(eventType, body), nil
}

// jsonFrame is a watch event as JSON, ended by a newline.
func jsonFrame(eventType string, body []byte) []byte {
	out := make([]byte, 0, len(body)+len(eventType)+24)
	out = append(out, `{"type":"`...)
	out = append(out, eventType...)
	out = append(out, `","object":`...)
	out = append(out, body...)
	return append(out, "}\n"...)
}
