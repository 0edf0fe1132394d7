package apiserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"

	"sigs.k8s.io/yaml"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/wire"
	"clipper.dev/clipper/internal/store"
)

// sendPage answers with a list in the shape asked for.
func (s *Server) sendPage(w http.ResponseWriter, r *http.Request, v *version, p *page, m negotiate.Media) error {
	plain := m.Shape == negotiate.AsIs && m.Format != negotiate.YAML && !m.Pretty
	switch {
	case plain && acceptsGzip(r) && p.reaches(compressFrom):
		return s.sendPacked(w, r, v, p, m.Format)
	case plain && m.Format == negotiate.Protobuf:
		return s.sendMessages(w, r, v, p)
	case plain && p.reaches(pieceBytes) && !acceptsGzip(r):
		return s.sendText(w, r, v, p)
	}
	body, err := s.encodePage(r, v, p, m)
	if err != nil {
		return err
	}
	s.respond(w, r, http.StatusOK, m.Format.ContentType(), body)
	return nil
}

// reaches tells whether the items, as they lie in the cache, have so many bytes.
func (p *page) reaches(size int) bool {
	for _, e := range p.entries {
		if size -= len(e.Raw()); size <= 0 {
			return true
		}
	}
	return false
}

// pieceBytes is how much of a list is laid together before it is written: what a processor's own cache can hold.
const pieceBytes = 48 << 10

var pieces = sync.Pool{New: func() any { b := make([]byte, 0, pieceBytes+16<<10); return &b }}

// sendMessages answers with a list as protobuf. The cached messages are copied piece by piece: the list is nowhere whole.
func (s *Server) sendMessages(w http.ResponseWriter, r *http.Request, v *version, p *page) error {
	messages, err := p.messagesOf(v)
	if err != nil {
		return err
	}
	size := p.messagesSize(messages)
	head, tail := p.protobufHead(v, size), wire.AppendEnvelopeTail(nil)
	s.beginBody(w, r, negotiate.Protobuf.ContentType(), len(head)+size+len(tail))
	if r.Method == http.MethodHead {
		return nil
	}
	buffer := pieces.Get().(*[]byte)
	defer pieces.Put(buffer)
	piece := append((*buffer)[:0], head...)
	for _, e := range p.entries {
		msg := messages(e)
		if len(piece) > 0 && len(piece)+len(msg) > pieceBytes {
			if _, err := w.Write(piece); err != nil {
				return nil // the client has gone
			}
			piece = piece[:0]
		}
		piece = wire.AppendListItem(piece, msg)
	}
	_, _ = w.Write(append(piece, tail...)) // a client that went away is no error of the server's
	return nil
}

// sendText answers with a list as JSON, piece by piece too: a client that reads slowly does not make the server hold all of it.
func (s *Server) sendText(w http.ResponseWriter, r *http.Request, v *version, p *page) error {
	head, items, tail, err := p.parts(v, negotiate.JSON)
	if err != nil {
		return err
	}
	s.beginBody(w, r, negotiate.JSON.ContentType(), unknownSize)
	if r.Method == http.MethodHead {
		return nil
	}
	piece := head
	for i := range items.Len() {
		if piece, err = items.Append(piece, i); err == nil && len(piece) >= pieceBytes {
			_, err = w.Write(piece)
			piece = piece[:0]
		}
		if err != nil {
			s.breakOff(r, err)
			return nil
		}
	}
	_, err = w.Write(append(piece, tail...))
	s.breakOff(r, err)
	return nil
}

func (s *Server) encodePage(r *http.Request, v *version, p *page, m negotiate.Media) ([]byte, error) {
	if m.Shape == negotiate.AsIs {
		return p.text(v, m)
	}
	hubs, err := p.objects()
	if err == nil && v.api.FromHubs != nil {
		hubs, err = v.fromHubs(hubs)
	}
	if err != nil {
		return nil, err
	}
	if m.Shape == negotiate.Metadata {
		return nil, otherShape("you requested PartialObjectMetadata, but the requested object is a list (%s)", v.hubName("List"))
	}
	if m.Shape != negotiate.Table {
		return encodeObject(v.partialListOf(hubs, m.Meta, p.meta), m)
	}
	include, err := includeObject(r)
	if err != nil {
		return nil, err
	}
	table, err := newTable(v, m, include, hubs, &p.meta)
	if err != nil {
		return nil, err
	}
	return encodeObject(table, m)
}

func (p *page) objects() ([]api.Object, error) {
	out := make([]api.Object, len(p.entries))
	for i, e := range p.entries {
		o, err := objectOf(e)
		if err != nil {
			return nil, err
		}
		out[i] = o
	}
	return out, nil
}

// protobufHead is a list as protobuf up to its first item; size is that of the items.
func (p *page) protobufHead(v *version, size int) []byte {
	size += wire.ListMetaSize(&p.meta)
	return wire.AppendListMeta(wire.AppendEnvelopeHead(nil, v.gvk.GroupVersion().String(), v.listKind, size), &p.meta)
}

// messagesSize is what messages take as items of a list.
func (p *page) messagesSize(messages func(*store.Entry) []byte) (size int) {
	for _, e := range p.entries {
		size += wire.BytesFieldSize(len(messages(e)))
	}
	return size
}

// messagesOf returns what finds an entry's message in a version.
func (p *page) messagesOf(v *version) (func(*store.Entry) []byte, error) {
	if v.stable() {
		return (*store.Entry).Raw, nil
	}
	converted := make(map[*store.Entry][]byte, len(p.entries))
	for _, e := range p.entries {
		msg, err := documentOf(e).message(v)
		if err != nil {
			return nil, err
		}
		converted[e] = msg
	}
	return func(e *store.Entry) []byte { return converted[e] }, nil
}

// textHead is a list in JSON up to its first item.
func (p *page) textHead(v *version) ([]byte, error) {
	head, err := json.Marshal(struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Metadata   any    `json:"metadata"`
	}{v.listKind, v.gvk.GroupVersion().String(), v.listMeta(&p.meta)})
	if err != nil {
		return nil, err
	}
	return append(head[:len(head)-1], `,"items":[`...), nil
}

// listed is an entry as an item of a list.
func (p *page) listed(v *version, e *store.Entry) (api.Object, error) {
	if v.api.FromHubs == nil {
		o, err := objectOf(e)
		if err != nil {
			return nil, err
		}
		return v.fromHub(o)
	}
	p.converting.Do(func() { p.converted, p.convertErr = p.convert(v) })
	return p.converted[e], p.convertErr
}

// convert makes all items of a version, at once.
func (p *page) convert(v *version) (map[*store.Entry]api.Object, error) {
	hubs, err := p.objects()
	if err != nil {
		return nil, err
	}
	all, err := v.fromHubs(hubs)
	if err != nil {
		return nil, err
	}
	out := make(map[*store.Entry]api.Object, len(all))
	for i, e := range p.entries {
		out[e] = all[i]
	}
	return out, nil
}

// text is the list as JSON or YAML. Items carry no apiVersion and kind, as upstream's don't.
func (p *page) text(v *version, m negotiate.Media) ([]byte, error) {
	out, items, tail, err := p.parts(v, negotiate.JSON)
	if err != nil {
		return nil, err
	}
	for i := range items.Len() {
		if out, err = items.Append(out, i); err != nil {
			return nil, err
		}
	}
	out = append(out, tail...)
	switch {
	case m.Format == negotiate.YAML:
		return yaml.JSONToYAML(out)
	case m.Pretty:
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, bytes.TrimSpace(out), "", "  "); err != nil {
			return nil, err
		}
		return pretty.Bytes(), nil
	}
	return out, nil
}
