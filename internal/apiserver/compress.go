package apiserver

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"clipper.dev/clipper/internal/apiserver/negotiate"
	"clipper.dev/clipper/internal/apiserver/wire"
	"clipper.dev/clipper/internal/store"
)

// compressFrom is the size from which responses are compressed, as upstream's.
const compressFrom = 128 << 10

var gzipWriters = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is valid
	}
	return w
}}

func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		if name, _, _ := strings.Cut(strings.TrimSpace(part), ";"); name == "gzip" {
			return true
		}
	}
	return false
}

// writeCompressed writes a body as gzip.
func writeCompressed(w http.ResponseWriter, code int, body []byte) {
	h := w.Header()
	h.Set("Content-Encoding", "gzip")
	h.Add("Vary", "Accept-Encoding")
	w.WriteHeader(code)
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	z.Reset(w)
	if _, err := z.Write(body); err != nil {
		return // the client has gone
	}
	_ = z.Close()
}

// sendPacked answers with a list as gzip, put together from compressed runs of items that are kept.
func (s *Server) sendPacked(w http.ResponseWriter, r *http.Request, v *version, p *page, f negotiate.Format) error {
	head, items, tail, err := p.parts(v, f)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Encoding", "gzip")
	h.Add("Vary", "Accept-Encoding")
	s.beginBody(w, r, f.ContentType(), unknownSize)
	if r.Method != http.MethodHead {
		s.breakOff(r, s.packed.WriteGzip(w, v.gvk.String()+" "+f.ContentType(), head, items, tail))
	}
	return nil
}

// breakOff ends an answer that can't be completed, unless that is because the client has gone.
func (s *Server) breakOff(r *http.Request, err error) {
	if err == nil || r.Context().Err() != nil {
		return
	}
	s.cfg.Logger.Warn("an answer breaks off", "uri", r.RequestURI, "error", err)
	panic(http.ErrAbortHandler)
}

// parts are a list up to its first item, the items, and what follows.
func (p *page) parts(v *version, f negotiate.Format) (head []byte, items packedItems, tail []byte, err error) {
	if f == negotiate.Protobuf {
		messages, err := p.messagesOf(v)
		if err != nil {
			return nil, items, nil, err
		}
		items = packedItems{p.entries, func(dst []byte, e *store.Entry) ([]byte, error) {
			return wire.AppendListItem(dst, messages(e)), nil
		}}
		return p.protobufHead(v, p.messagesSize(messages)), items, wire.AppendEnvelopeTail(nil), nil
	}
	if head, err = p.textHead(v); err != nil || len(p.entries) == 0 {
		return head, items, []byte("]}\n"), err
	}
	encode := func(dst []byte, e *store.Entry) ([]byte, error) {
		o, err := p.listed(v, e)
		if err != nil {
			return nil, err
		}
		raw, err := json.Marshal(o)
		return append(dst, raw...), err
	}
	// The first item stands apart, so that every other one can begin with its comma.
	head, err = encode(head, p.entries[0])
	items = packedItems{p.entries[1:], func(dst []byte, e *store.Entry) ([]byte, error) { return encode(append(dst, ','), e) }}
	return head, items, []byte("]}\n"), err
}

// packedItems are entries as items of a compressed list.
type packedItems struct {
	entries []*store.Entry
	encode  func(dst []byte, e *store.Entry) ([]byte, error)
}

// Len implements packed.Items.
func (i packedItems) Len() int { return len(i.entries) }

// ID implements packed.Items.
func (i packedItems) ID(n int) (string, int64) { return i.entries[n].Key(), i.entries[n].Revision() }

// Append implements packed.Items.
func (i packedItems) Append(dst []byte, n int) ([]byte, error) { return i.encode(dst, i.entries[n]) }
